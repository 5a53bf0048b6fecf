//! Loss on the validation genomes.

use cistron_model::HNet;

use crate::TrainError;
use crate::collective::Collective;
use crate::loader::Loader;
use crate::loss::{Loss, StageTally, Tally};
use crate::trainer::reduce;

/// Sums over fixed windows of the validation genomes with about `tokens` targets; none
/// where the corpus has no such genome. The ranks of `group` share the work.
///
/// # Errors
///
/// The corpus cannot be read, or other ranks are lost.
pub fn evaluate(
    model: &HNet,
    loader: &Loader<'_>,
    tokens: u64,
    group: &dyn Collective,
) -> Result<Option<Tally>, TrainError> {
    let mut sum = Tally::default();
    let ranks = (0..group.world()).cycle();
    for (batch, rank) in loader.validation(tokens).zip(ranks) {
        if rank != group.rank() {
            continue;
        }
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
    if group.world() > 1 {
        // A rank without a batch has no stages yet.
        let stages = model.config().stages() - 1;
        sum.stages.resize(stages, StageTally::default());
        reduce(&mut sum, &mut [], group)?;
    }
    Ok((sum.scored > 0).then_some(sum))
}
