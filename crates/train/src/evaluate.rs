//! Loss on the validation genomes.

use cistron_model::HNet;

use crate::TrainError;
use crate::loader::Loader;
use crate::loss::{Loss, Tally};

/// Sums over fixed windows of the validation genomes with about `tokens` targets; none
/// where the corpus has no such genome.
///
/// # Errors
///
/// The corpus cannot be read.
pub fn evaluate(
    model: &HNet,
    loader: &Loader<'_>,
    tokens: u64,
) -> Result<Option<Tally>, TrainError> {
    let mut sum = Tally::default();
    for batch in loader.validation(tokens) {
        let batch = batch?;
        let tally = tch::no_grad(|| {
            Loss::of(
                &model.forward(&batch.tokens, &batch.lengths),
                &batch,
                model.config(),
            )
            .tally()
        });
        sum.add(&tally);
    }
    Ok((sum.scored > 0).then_some(sum))
}
