//! Parity with the reference implementation, from golden vectors.
//!
//! A golden file holds a small model (`param.<name>`), its input, and what the
//! reference computed: logits, boundaries, losses and sampled gradients.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::checkpoint::{TensorFile, read_params};
use crate::config::{Config, Numerics};
use crate::error::ModelError;
use crate::hnet::HNet;
use crate::loss::ratio_loss;

/// Largest allowed distance of a logit.
pub const LOGITS: f64 = 2e-5;
/// Largest allowed distance of a loss.
pub const LOSSES: f64 = 2e-6;
/// Largest allowed distance of a sampled gradient entry, relative to the gradient's norm.
pub const GRADIENTS: f64 = 2e-4;

/// Distances of one file.
#[derive(Debug, Clone)]
pub struct Parity {
    /// Largest distance of a logit.
    pub logits: f64,
    /// Tokens, over all stages, whose boundary differs.
    pub boundaries: i64,
    /// Largest distance of a boundary probability.
    pub probabilities: f64,
    /// Largest distance among cross-entropy, ratio losses and total.
    pub losses: f64,
    /// Largest distance of a sampled gradient entry over its gradient's norm.
    pub gradients: f64,
    /// The parameter with that gradient.
    pub worst_gradient: String,
}

impl Parity {
    /// Whether every distance is within its tolerance.
    pub fn holds(&self) -> bool {
        self.boundaries == 0
            && self.logits <= LOGITS
            && self.losses <= LOSSES
            && self.gradients <= GRADIENTS
    }
}

/// Runs the model of a golden file on `device` and measures how far it is from the reference.
///
/// # Errors
///
/// The file is not a golden file of an H-Net, or has a layout that we do not build.
pub fn check(path: &Path, device: Device) -> Result<Parity, ModelError> {
    let file = TensorFile::open(path)?;
    let entry = |key: &str| {
        file.metadata().get(key).cloned().ok_or_else(|| {
            ModelError::format(
                path,
                format!("not a golden file of an H-Net: no '{key}' in its metadata"),
            )
        })
    };
    let number = |text: String| {
        text.parse::<f64>()
            .map_err(|_| ModelError::format(path, format!("'{text}' is not a number")))
    };
    let mut config = Config::from_json(&entry("config")?, path)?;
    config.cistron.numerics = Numerics::Parity;
    config.cistron.ratio = serde_json::from_str(&entry("ratio_N")?)
        .map_err(|error| ModelError::format(path, format!("ratio_N: {error}")))?;
    config
        .validate()
        .map_err(|error| ModelError::format(path, error.to_string()))?;
    let alpha = number(entry("alpha")?)?;
    let params = read_params(&config, &file, "param.", device)?;
    let model = HNet::with_params(config, params, device);

    let get = |name: &str| Ok::<_, ModelError>(file.tensor(name)?.to_device(device));
    let ids = get("input_ids")?;
    let (rows, columns) = ids.size2()?;
    let length = columns - 1;
    let inputs = ids.narrow(1, 0, length).reshape([-1]);
    let targets = ids.narrow(1, 1, length).reshape([-1]);
    let output = model.forward(&inputs, &vec![length; rows as usize]);

    let cross_entropy = output.logits.cross_entropy_for_logits(&targets);
    let mut loss = cross_entropy.shallow_clone();
    let distance = |a: &Tensor, b: &Tensor| {
        (a.reshape([-1]) - b.reshape([-1]))
            .abs()
            .max()
            .double_value(&[])
    };
    let mut losses = distance(&cross_entropy, &get("ce")?);
    let (mut boundaries, mut probabilities) = (0, 0.0f64);
    for (stage, routing) in output.routing.iter().enumerate() {
        let n = model.config().ratio(stage).ok_or_else(|| {
            ModelError::format(path, format!("ratio_N has no value for stage {stage}"))
        })?;
        let ratio = ratio_loss(routing, n);
        losses = losses.max(distance(&ratio, &get(&format!("stage{stage}.ratio_loss"))?));
        loss = &loss + ratio * alpha;
        let mask = get(&format!("stage{stage}.boundary_mask"))?.to_kind(Kind::Bool);
        if mask.size() != routing.mask.size() {
            boundaries += (mask.size()[0] - routing.mask.size()[0]).abs();
            continue;
        }
        boundaries += mask
            .not_equal_tensor(&routing.mask)
            .sum(Kind::Int64)
            .int64_value(&[]);
        let prob = get(&format!("stage{stage}.boundary_prob"))?;
        probabilities = probabilities.max(distance(&routing.prob, &prob));
    }
    losses = losses.max(distance(&loss, &get("loss")?));
    loss.backward();

    let (mut gradients, mut worst_gradient) = (0.0f64, String::new());
    for (name, param) in model.params().iter() {
        let norm = get(&format!("grad_norm.{name}"))?.double_value(&[0]);
        let index = get(&format!("grad_index.{name}"))?.to_kind(Kind::Int64);
        let expected = get(&format!("grad_value.{name}"))?;
        let gradient = param.tensor.grad();
        let gradient = if gradient.defined() {
            gradient.reshape([-1])
        } else {
            Tensor::zeros([param.tensor.numel() as i64], (Kind::Float, device))
        };
        let error = distance(&gradient.index_select(0, &index), &expected) / (norm + 1e-12);
        if error > gradients || error.is_nan() {
            (gradients, worst_gradient) = (error, name.to_owned());
        }
    }
    let logits = distance(&output.logits, &get("logits")?);
    Ok(Parity {
        logits,
        boundaries,
        probabilities,
        losses,
        gradients,
        worst_gradient,
    })
}
