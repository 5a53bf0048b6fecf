//! Whether a step may be taken: loss and gradient are numbers, and of the usual size.

use tch::{Kind, Tensor};

use crate::TrainError;
use crate::trainer::Trainer;
use crate::workers::Gradients;

/// What the usual norm keeps of itself at each step.
const DECAY: f64 = 0.98;
/// Steps after which the usual norm is known well enough.
const SETTLED: u64 = 50;

/// Checks a step before it changes any weight.
///
/// # Errors
///
/// The loss or the norm of the gradient is no number, or the norm is more than
/// `optimizer.explosion` times what is usual.
pub fn check(
    trainer: &Trainer,
    gradients: &Gradients,
    loss: f64,
    norm: f64,
) -> Result<(), TrainError> {
    let (usual, limit) = (
        trainer.counts.usual_norm,
        trainer.config.optimizer.explosion,
    );
    let explodes =
        limit > 0.0 && trainer.counts.step >= SETTLED && usual > 0.0 && norm > limit * usual;
    let (what, value, usual, culprit) = if !loss.is_finite() {
        ("loss", loss, None, broken(trainer, gradients))
    } else if !norm.is_finite() {
        ("gradient norm", norm, None, broken(trainer, gradients))
    } else if explodes {
        let size = |gradient: &Tensor| gradient.norm().to_kind(Kind::Double).double_value(&[]);
        let sizes = gradients.iter().map(|(name, g)| (name, size(g)));
        let largest = sizes.max_by(|a, b| a.1.total_cmp(&b.1));
        let culprit = largest.map_or(String::new(), |(name, size)| {
            format!("The gradient of {name} is the largest, {size:.3}.")
        });
        ("gradient norm", norm, Some(usual), culprit)
    } else {
        return Ok(());
    };
    Err(TrainError::Unstable {
        step: trainer.counts.step + 1,
        what,
        value,
        usual,
        culprit,
        last: None,
    })
}

/// The running mean of the norm after one more step.
pub fn usual(before: f64, norm: f64, step: u64) -> f64 {
    match step {
        0 => norm,
        _ => DECAY * before + (1.0 - DECAY) * norm,
    }
}

/// A sentence that names the first weight, or else gradient, with values that are no numbers.
fn broken(trainer: &Trainer, gradients: &Gradients) -> String {
    let bad = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 0;
    let weights = trainer.model.params().iter();
    if let Some((name, _)) = weights.into_iter().find(|(_, param)| bad(&param.tensor)) {
        return format!("Before it, the weight {name} held values that are no numbers.");
    }
    match gradients.iter().find(|(_, gradient)| bad(gradient)) {
        Some((name, _)) => {
            format!("Values that are no numbers show first in the gradient of {name}.")
        }
        None => "All weights and gradients are numbers: the values are too large to add up.".into(),
    }
}
