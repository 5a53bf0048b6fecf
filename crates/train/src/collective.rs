//! What data-parallel ranks have to agree on.

use tch::Tensor;

/// A group of ranks that train one model, each on its own part of every batch.
///
/// The sampler divides windows by [`Collective::rank`] and [`Collective::world`]; a step
/// sums the number of targets before, and gradients and statistics after its passes.
pub trait Collective {
    /// Number of this rank, from 0. Rank 0 alone writes the run folder.
    fn rank(&self) -> u64;
    /// Number of ranks.
    fn world(&self) -> u64;
    /// Replaces each value by its sum over all ranks.
    fn sum(&self, values: &mut [f64]);
    /// Replaces each gradient by its sum over all ranks, in place.
    fn sum_gradients(&self, gradients: &[Tensor]);
}

/// The group of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> u64 {
        0
    }

    fn world(&self) -> u64 {
        1
    }

    fn sum(&self, _: &mut [f64]) {}

    fn sum_gradients(&self, _: &[Tensor]) {}
}
