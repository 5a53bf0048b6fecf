//! Parity of [`Lyra`] with the reference implementation, from golden vectors.
//!
//! A golden file holds `param.<name>`, the input `x` `[B, L, d_input]`, the outputs `y`
//! `[B, d_output]`, their cotangent `dy`, and the gradients `dx` and `grad.<name>` of
//! `sum(y * dy)`.

use std::path::Path;

use tch::{Device, Tensor};

use super::{Form, Lyra, LyraConfig};
use crate::checkpoint::TensorFile;
use crate::error::ModelError;

/// Largest allowed distance of the outputs, relative to their norm.
pub const OUTPUTS: f64 = 1e-5;
/// Largest allowed distance of a gradient, relative to its norm.
pub const GRADIENTS: f64 = 1e-4;
/// The same for step sizes, whose gradients are sums over all positions and states.
pub const STEP_SIZES: f64 = 5e-4;

/// Distances of one file; each is a norm over the reference's norm.
#[derive(Debug, Clone)]
pub struct LyraParity {
    /// Number of parameters.
    pub parameters: usize,
    /// The largest distance of the outputs, over the three forms of S4D.
    pub outputs: f64,
    /// The largest distance of a gradient over its tolerance, in units of [`GRADIENTS`].
    pub gradients: f64,
    /// The tensor with that gradient.
    pub worst_gradient: String,
}

impl LyraParity {
    /// Whether every distance is within its tolerance.
    pub fn holds(&self) -> bool {
        self.outputs <= OUTPUTS && self.gradients <= GRADIENTS
    }
}

/// Whether a golden file is one of a Lyra network: its configuration has `d_input`.
///
/// # Errors
///
/// The file cannot be read.
pub fn is_lyra(path: &Path) -> Result<bool, ModelError> {
    let file = TensorFile::open(path)?;
    let config = file.metadata().get("config");
    Ok(config.is_some_and(|config| config.contains("\"d_input\"")))
}

/// Runs the network of a golden file on `device` and measures how far it is from the reference.
///
/// # Errors
///
/// The file is not a golden file of a Lyra network.
pub fn check(path: &Path, device: Device) -> Result<LyraParity, ModelError> {
    let file = TensorFile::open(path)?;
    let config = file.metadata().get("config").ok_or_else(|| {
        ModelError::format(path, "not a golden file: no 'config' in its metadata")
    })?;
    let config: LyraConfig = serde_json::from_str(config)
        .map_err(|error| ModelError::format(path, format!("config: {error}")))?;
    let lyra = Lyra::read(&config, &file, "param.", device)?;
    let get = |name: &str| Ok::<_, ModelError>(file.tensor(name)?.to_device(device));
    let x = get("x")?.set_requires_grad(true);
    let expected = get("y")?;
    let distance = |a: &Tensor, b: &Tensor| ((a - b).norm() / b.norm()).double_value(&[]);
    let mut outputs = 0.0f64;
    for form in [Form::Direct, Form::Recurrence] {
        let y = tch::no_grad(|| lyra.forward_by(&x, None, None, form));
        outputs = outputs.max(distance(&y, &expected));
    }
    let y = lyra.forward_by(&x, None, None, Form::Fft);
    outputs = outputs.max(distance(&y, &expected));
    (y * get("dy")?).sum(tch::Kind::Float).backward();
    let (mut gradients, mut worst_gradient) = (distance(&x.grad(), &get("dx")?), "x".to_owned());
    for (name, tensor, _) in lyra.params().iter() {
        let loosened = if name.ends_with("log_dt") {
            STEP_SIZES / GRADIENTS
        } else {
            1.0
        };
        let error = distance(&tensor.grad(), &get(&format!("grad.{name}"))?) / loosened;
        if error > gradients || error.is_nan() {
            (gradients, worst_gradient) = (error, name.to_owned());
        }
    }
    Ok(LyraParity {
        parameters: lyra.params().count(),
        outputs,
        gradients,
        worst_gradient,
    })
}
