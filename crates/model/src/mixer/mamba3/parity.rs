//! Parity of [`Mamba3`] with the reference implementation, from golden vectors.
//!
//! There are two kinds of files. One holds a whole block: in its metadata `config`, and as tensors
//! `param.<name>`, the input `u` `[B, L, d_model]`, the output `y`, its cotangent `dy`, and the
//! gradients `du` and `grad.<name>` of `sum(y * dy)`. The other holds the recurrence alone with its
//! final states (see `Recurrence`).

use std::path::Path;

use cistron_kernels::Layout;
use cistron_kernels::mamba3::{Inputs, Memory};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::Mamba3;
use crate::checkpoint::TensorFile;
use crate::config::mamba3::{DecayActivation, Mamba3Shape, turning_pairs};
use crate::error::ModelError;
use crate::state::Rows;

/// Largest allowed distance of the outputs and final states, relative to their norm.
pub const OUTPUTS: f64 = 1e-5;
/// Largest allowed distance of a gradient, relative to its norm.
pub const GRADIENTS: f64 = 1e-4;

/// Distances of one file; each is a norm over the reference's norm.
#[derive(Debug, Clone)]
pub struct Mamba3Parity {
    /// The largest distance of the outputs over the parallel form, steps and matrix, or over the
    /// whole and the split recurrence and their final states.
    pub outputs: f64,
    /// The largest distance of a gradient; none where the file has no gradients.
    pub gradients: Option<f64>,
    /// The tensor with that gradient.
    pub worst_gradient: String,
}

impl Mamba3Parity {
    /// Whether every distance is within its tolerance.
    pub fn holds(&self) -> bool {
        self.outputs <= OUTPUTS && self.gradients.is_none_or(|worst| worst <= GRADIENTS)
    }
}

/// The configuration of a golden block.
#[derive(Debug, Deserialize)]
struct Golden {
    d_model: i64,
    d_state: i64,
    expand: i64,
    headdim: i64,
    ngroups: i64,
    rope_fraction: f64,
    is_outproj_norm: bool,
    is_mimo: bool,
    mimo_rank: i64,
    a_activation: DecayActivation,
    #[serde(rename = "A_floor")]
    floor: f64,
    rotary_layout: Pairing,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pairing {
    Pairwise,
    Half,
}

impl Golden {
    fn shape(&self) -> Mamba3Shape {
        Mamba3Shape {
            width: self.d_model,
            heads: self.d_model * self.expand / self.headdim.max(1),
            head_dim: self.headdim,
            states: self.d_state,
            groups: self.ngroups,
            rank: if self.is_mimo { self.mimo_rank } else { 1 },
            mimo: self.is_mimo,
            angles: turning_pairs(self.d_state, self.rope_fraction),
            halves: self.rotary_layout == Pairing::Half,
            norm: self.is_outproj_norm,
            activation: self.a_activation,
            floor: self.floor,
        }
    }
}

/// Whether a golden file is one of Mamba-3.
///
/// # Errors
///
/// The file cannot be read.
pub fn is_mamba3(path: &Path) -> Result<bool, ModelError> {
    let file = TensorFile::open(path)?;
    let config = file.metadata().get("config");
    let block = config.is_some_and(|config| config.contains("\"mimo_rank\""));
    Ok(block || file.shape("final_angle").is_some())
}

/// Runs what a golden file holds on `device` and measures how far it is from the reference.
///
/// # Errors
///
/// The file is not a golden file of Mamba-3.
pub fn check(path: &Path, device: Device) -> Result<Mamba3Parity, ModelError> {
    let file = TensorFile::open(path)?;
    match file.metadata().get("config") {
        Some(config) => block(&file, config, device),
        None => recurrence(&file, device),
    }
}

fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    ((found - expected).norm() / expected.norm()).double_value(&[])
}

fn block(file: &TensorFile, config: &str, device: Device) -> Result<Mamba3Parity, ModelError> {
    let path = file.path();
    let golden: Golden = serde_json::from_str(config)
        .map_err(|error| ModelError::format(path, format!("config: {error}")))?;
    let shape = golden.shape();
    let get = |name: &str| Ok::<_, ModelError>(file.tensor(name)?.to_device(device));
    let mut params = Vec::new();
    for (name, expected) in shape.parameters() {
        let full = format!("param.{name}");
        let tensor = get(&full)?;
        if tensor.size() != expected {
            return Err(ModelError::Tensor {
                path: path.to_owned(),
                name: full,
                problem: format!(
                    "shape {:?}, but the config says {expected:?}",
                    tensor.size()
                ),
            });
        }
        params.push((name, tensor.set_requires_grad(true)));
    }
    let mixer = Mamba3::new(shape, |name| {
        let found = params.iter().find(|(known, _)| *known == name);
        let (_, tensor) = found.expect("a shape names its parameters");
        tensor.shallow_clone()
    });

    let u = get("u")?;
    let expected = get("y")?;
    let (rows, length, width) = u.size3()?;
    let flat = u.reshape([-1, width]).set_requires_grad(true);
    let layout = Layout::new(&vec![length; rows as usize], device);
    let (y, _) = mixer.run(&flat, &layout, None, false);
    let y = y.reshape_as(&expected);
    let mut outputs = distance(&y, &expected);
    (&y * get("dy")?).sum(Kind::Float).backward();

    let _guard = tch::no_grad_guard();
    let mut state = mixer.empty_memory(rows, device);
    let all = Rows::all(rows);
    let steps: Vec<Tensor> = (0..length)
        .map(|t| mixer.step(&u.select(1, t), &all, &mut state))
        .collect();
    outputs = outputs.max(distance(&Tensor::stack(&steps, 1), &expected));
    for row in 0..rows {
        let u = u.get(row);
        let y = mixer.apply_matrix(&mixer.matrix(&u), &u);
        outputs = outputs.max(distance(&y, &expected.get(row)));
    }

    let du = get("du")?;
    let mut worst = (distance(&flat.grad().reshape_as(&du), &du), "u");
    for (name, tensor) in &params {
        let error = distance(&tensor.grad(), &get(&format!("grad.{name}"))?);
        if error > worst.0 || error.is_nan() {
            worst = (error, name);
        }
    }
    Ok(Mamba3Parity {
        outputs,
        gradients: Some(worst.0),
        worst_gradient: worst.1.to_owned(),
    })
}

/// The recurrence alone. Shapes in the file, `S` angles, one group and rank: `B`, `C`
/// `[batch, length, 1, N]`, `x`, `z`, `y` `[batch, length, H, P]`, `a` = A Δ, `dt` and `trap` (before
/// its sigmoid) `[batch, H, length]`, biases `[H, N]`, `theta` (before its tanh)
/// `[batch, length, H, S]`, `D` `[H]`, `final_angle`, `final_ssm`, `final_k`, `final_v`, and `split`,
/// where the sequence may be cut.
struct Recurrence {
    x: Tensor,
    z: Tensor,
    b: Tensor,
    c: Tensor,
    b_bias: Tensor,
    c_bias: Tensor,
    theta: Tensor,
    delta: Tensor,
    log_decay: Tensor,
    trap: Tensor,
    skip: Tensor,
}

impl Recurrence {
    fn read(file: &TensorFile, device: Device) -> Result<Self, ModelError> {
        let get = |name: &str| Ok::<_, ModelError>(file.tensor(name)?.to_device(device));
        let by_token = |name: &str| Ok::<_, ModelError>(get(name)?.transpose(1, 2));
        Ok(Self {
            x: get("x")?,
            z: get("z")?,
            b: get("B")?.unsqueeze(2),
            c: get("C")?.unsqueeze(2),
            b_bias: get("B_bias")?.unsqueeze(1),
            c_bias: get("C_bias")?.unsqueeze(1),
            theta: get("theta")?.tanh() * std::f64::consts::PI,
            delta: by_token("dt")?,
            log_decay: by_token("a")?,
            trap: by_token("trap")?.sigmoid(),
            skip: get("D")?,
        })
    }

    /// Tokens `start..start + length` of every row: gated outputs, and the memory after them.
    fn run(&self, start: i64, length: i64, initial: Option<&Memory>) -> (Tensor, Memory) {
        let rows = self.x.size()[0];
        let cut = |t: &Tensor| t.narrow(1, start, length).flatten(0, 1);
        let layout = Layout::new(&vec![length; rows as usize], self.x.device());
        let inputs = Inputs {
            x: &cut(&self.x),
            up: None,
            b: &cut(&self.b),
            c: &cut(&self.c),
            b_bias: &self.b_bias,
            c_bias: &self.c_bias,
            theta: &cut(&self.theta),
            delta: &cut(&self.delta),
            log_decay: &cut(&self.log_decay),
            trap: &cut(&self.trap),
            weights: None,
            skip: &self.skip,
        };
        let (y, memory) = inputs.run(&layout, initial, true);
        let gated = y.squeeze_dim(2) * cut(&self.z).silu();
        let y = gated.reshape_as(&self.x.narrow(1, start, length));
        (y, memory.expect("the memory was asked for"))
    }
}

fn recurrence(file: &TensorFile, device: Device) -> Result<Mamba3Parity, ModelError> {
    let _guard = tch::no_grad_guard();
    let inputs = Recurrence::read(file, device)?;
    let get = |name: &str| Ok::<_, ModelError>(file.tensor(name)?.to_device(device));
    let expected = get("y")?;
    let length = expected.size()[1];
    let split = get("split")?.int64_value(&[0]).clamp(0, length);
    let (whole, after) = inputs.run(0, length, None);
    let (left, between) = inputs.run(0, split, None);
    let (right, last) = inputs.run(split, length - split, Some(&between));
    let mut outputs = distance(&whole, &expected);
    outputs = outputs.max(distance(&Tensor::cat(&[left, right], 1), &expected));
    let angle = get("final_angle")?;
    let [ssm, k, v] = [
        get("final_ssm")?,
        get("final_k")?.unsqueeze(1),
        get("final_v")?,
    ];
    for memory in [after, last] {
        for (found, expected) in [(&memory.ssm, &ssm), (&memory.k, &k), (&memory.v, &v)] {
            outputs = outputs.max(distance(found, expected));
        }
        // Angles are equal up to whole turns.
        let apart = (&memory.angle - &angle) * 0.5;
        outputs = outputs.max((apart.sin().norm() / angle.norm()).double_value(&[]));
    }
    Ok(Mamba3Parity {
        outputs,
        gradients: None,
        worst_gradient: ".".into(),
    })
}
