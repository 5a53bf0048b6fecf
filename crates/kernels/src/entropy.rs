//! Cross-entropy over a small vocabulary.

use tch::{Kind, Reduction, Tensor};

use crate::device;

/// Summed negative log-likelihood of `targets`, nats: an fp32 scalar.
///
/// - `logits`: `[tokens, vocabulary]`; softmax and sum are fp32
/// - `targets`: i64 `[tokens]`; those that are `ignored` cost nothing
///
/// On CUDA one kernel each way, with the same bits from run to run.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, ignored: i64) -> Tensor {
    if device::joinable(logits) && logits.dim() == 2 && targets.dim() == 1 {
        let inputs = [Some(logits), Some(targets)];
        let [nats] = device::call(device::cistron_entropy, &inputs, &[ignored]);
        return nats;
    }
    cross_entropy_plain(logits, targets, ignored)
}

/// The same by libtorch's operators.
pub fn cross_entropy_plain(logits: &Tensor, targets: &Tensor, ignored: i64) -> Tensor {
    let logits = match logits.kind() {
        Kind::Double => logits.shallow_clone(),
        _ => logits.to_kind(Kind::Float),
    };
    logits.cross_entropy_loss::<Tensor>(targets, None, Reduction::Sum, ignored, 0.0)
}
