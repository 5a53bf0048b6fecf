//! The dechunk layer: from chunks back to tokens (H-Net, eq. 5 and 8).

use tch::{Kind, Tensor};

use crate::chunk::{Places, fused};
use crate::{Packed, device, ema, upload};

/// Least probability in the average.
pub const FLOOR: f64 = 1e-4;

/// Greatest probability in the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// One: a sure boundary forgets all before it.
    One,
    /// `1 - FLOOR`, as the reference has it.
    BelowOne,
}

impl Ceiling {
    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::BelowOne => 1.0 - FLOOR,
        }
    }
}

/// The probability as the average uses it.
pub fn smoothing(prob: &Tensor, ceiling: Ceiling) -> Tensor {
    prob.clamp(FLOOR, ceiling.value())
}

/// What the dechunk layer reads.
#[derive(Debug, Clone, Copy)]
pub struct Dechunk<'a> {
    /// What the inner stages made of the chunks: `[chunks, width]`.
    pub z: &'a Packed,
    /// Probability that a chunk starts: fp32 `[tokens]`.
    pub prob: &'a Tensor,
    /// Whether a chunk starts: bool `[tokens]`.
    pub mask: &'a Tensor,
    /// Where chunks lie.
    pub places: &'a Places,
    /// Positions of the tokens within their sequences: i64 `[tokens]`.
    pub positions: &'a Tensor,
    /// What is added: fp32 `[tokens, width]`.
    pub residual: &'a Tensor,
    /// The average before the first chunk of each sequence, `[sequences, width]`.
    pub average: Option<&'a Tensor>,
    /// Bounds of the probabilities.
    pub ceiling: Ceiling,
}

impl Dechunk<'_> {
    /// Smooths the chunks, brings them back to the tokens, scales them by a confidence that is
    /// one forwards and carries the gradient backwards, and adds the residual.
    ///
    /// Returns `[tokens, width]` in fp32 and, when asked to `keep` it, the average after each
    /// sequence `[sequences, width]`.
    pub fn run(&self, keep: bool) -> (Tensor, Option<Tensor>) {
        if self.average.is_none() && fused(&self.z.values) {
            return self.run_fused(keep);
        }
        let (out, last) = self.run_plain();
        (out, keep.then_some(last))
    }

    fn run_fused(&self, keep: bool) -> (Tensor, Option<Tensor>) {
        let inputs = [
            &self.z.values,
            self.prob,
            self.residual,
            &self.places.boundaries,
            &self.places.source,
            self.positions,
        ]
        .map(Some);
        let below = i64::from(self.ceiling == Ceiling::BelowOne);
        let [out, smoothed] = device::call(device::cistron_dechunk, &inputs, &[below]);
        let last = keep.then(|| {
            let layout = &self.z.layout;
            // A sequence without chunks has an average of zero: a row behind the others.
            let ends: Vec<i64> = (1..layout.offsets().len())
                .map(|i| match layout.lengths()[i - 1] {
                    0 => layout.total(),
                    _ => layout.offsets()[i] - 1,
                })
                .collect();
            smoothed
                .constant_pad_nd([0, 0, 0, 1])
                .index_select(0, &upload(&ends, smoothed.device()))
        });
        (out, last)
    }

    /// The same by libtorch's operators.
    pub fn run_plain(&self) -> (Tensor, Tensor) {
        let prob = self.prob;
        let p = smoothing(&prob.index_select(0, &self.places.boundaries), self.ceiling);
        let (smoothed, last) = ema::smooth(&self.z.values, &p, &self.z.layout, self.average);
        let table = match self.average {
            Some(average) => Tensor::cat(&[&smoothed, &average.to_kind(Kind::Float)], 0),
            None => smoothed,
        };
        let other: Tensor = 1.0 - prob;
        let confidence = prob.where_self(self.mask, &other);
        let rest: Tensor = 1.0 - &confidence;
        let straight_through = &confidence + rest.detach();
        let back = table.index_select(0, &self.places.source) * straight_through.unsqueeze(-1);
        (back + self.residual, last)
    }
}
