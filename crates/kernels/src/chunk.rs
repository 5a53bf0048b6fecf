//! Dynamic chunking: where chunks start and what goes inwards (H-Net, section 2.2).

use tch::{Device, Kind, Tensor};

use crate::{Layout, Packed, device, linear, linear_bias, runtime, upload};

/// Weights of a router and of the way past the inner stages, fp32.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// Of the token before: `[width, width]`.
    pub q: &'a Tensor,
    /// Of the token itself: `[width, width]`.
    pub k: &'a Tensor,
    /// Of the residual: `[width, width]`.
    pub residual: &'a Tensor,
    /// Of the residual: `[width]`.
    pub residual_bias: &'a Tensor,
}

/// What a router says of each token.
#[derive(Debug)]
pub struct Decision {
    /// Probability that a chunk starts: fp32 `[tokens]`.
    pub prob: Tensor,
    /// Whether one does: bool `[tokens]`.
    pub mask: Tensor,
    /// What goes past the inner stages: fp32 `[tokens, width]`.
    pub residual: Tensor,
}

/// What came before the first token of each sequence.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The last vector `[sequences, width]`.
    pub last: &'a Tensor,
    /// How many tokens there were.
    pub seen: &'a [i64],
}

/// Widest row of the kernels; widths are multiples of 8.
const WIDEST: i64 = 2048;

/// Whether a stage of these vectors has kernels: in bf16 on CUDA.
pub(crate) fn fused(x: &Tensor) -> bool {
    let width = x.size().last().copied().unwrap_or(0);
    device::joinable(x)
        && x.kind() == Kind::BFloat16
        && x.dim() == 2
        && width % 8 == 0
        && width <= WIDEST
}

/// Routes `x` `[tokens, width]`: a chunk starts where `(1 - cos(W_q previous, W_k current)) / 2`
/// is above one half, and with the first token ever. A `share` of the tokens, evenly spread,
/// overrules the probabilities.
///
/// Products and cosines are fp32. In bf16 on CUDA, from nothing, one node of the graph.
pub fn route(
    x: &Packed,
    weights: &Weights<'_>,
    before: Option<Before<'_>>,
    share: Option<f64>,
) -> Decision {
    if before.is_none() && fused(&x.values) {
        let inputs = [
            &x.values,
            weights.q,
            weights.k,
            weights.residual,
            weights.residual_bias,
            x.layout.positions(),
        ]
        .map(Some);
        let limit = share.map_or(-1, limit);
        let [prob, mask, residual] = device::call(device::cistron_router, &inputs, &[limit]);
        return Decision {
            prob,
            mask,
            residual,
        };
    }
    route_plain(x, weights, before, share)
}

/// [`route`] by libtorch's operators.
pub fn route_plain(
    x: &Packed,
    weights: &Weights<'_>,
    before: Option<Before<'_>>,
    share: Option<f64>,
) -> Decision {
    let (layout, device) = (&x.layout, x.values.device());
    let total = layout.total();
    let starts = starts_of(layout);
    let first = first_of(&starts, before);
    let rows: Vec<i64> = starts.iter().map(|&(row, _)| row as i64).collect();
    let offsets: Vec<i64> = starts.iter().map(|&(_, offset)| offset).collect();
    let tensor = |list: &[i64]| upload(list, device);

    let mut previous = Tensor::cat(
        &[
            x.values.narrow(0, 0, total.min(1)),
            x.values.narrow(0, 0, (total - 1).max(0)),
        ],
        0,
    );
    if let Some(before) = before {
        let last = before
            .last
            .index_select(0, &tensor(&rows))
            .to_kind(previous.kind());
        previous = previous.index_copy(0, &tensor(&offsets), &last);
    }
    let prob = probability(&previous, &x.values, weights).index_fill(0, &tensor(&first), 1.0);
    decide(prob, x, weights, before, share)
}

/// The decision from probabilities fp32 `[tokens]`, in which first tokens ever are sure.
pub fn decide(
    prob: Tensor,
    x: &Packed,
    weights: &Weights<'_>,
    before: Option<Before<'_>>,
    share: Option<f64>,
) -> Decision {
    let (layout, device) = (&x.layout, x.values.device());
    let mask = match share {
        None => prob.gt(0.5),
        Some(share) => {
            let first = first_of(&starts_of(layout), before);
            spread(layout.total(), share, device).index_fill(0, &upload(&first, device), 1)
        }
    };
    Decision {
        prob,
        mask,
        residual: residual(&x.values, weights),
    }
}

/// Sequences that are not empty, each with its first token.
fn starts_of(layout: &Layout) -> Vec<(usize, i64)> {
    layout
        .offsets()
        .iter()
        .zip(layout.lengths())
        .enumerate()
        .filter(|(_, (_, length))| **length > 0)
        .map(|(row, (&offset, _))| (row, offset))
        .collect()
}

/// First tokens ever.
fn first_of(starts: &[(usize, i64)], before: Option<Before<'_>>) -> Vec<i64> {
    starts
        .iter()
        .filter(|(row, _)| before.is_none_or(|before| before.seen[*row] == 0))
        .map(|&(_, offset)| offset)
        .collect()
}

/// `(1 - cos(W_q previous, W_k current)) / 2` in fp32 of rows `[rows, width]`: `[rows]`.
pub fn probability(previous: &Tensor, current: &Tensor, weights: &Weights<'_>) -> Tensor {
    let [q, k] = vectors(previous, current, weights);
    dissimilarity(&q, &k)
}

/// What [`dissimilarity`] compares: q of `previous` and k of `current`.
pub fn vectors(previous: &Tensor, current: &Tensor, weights: &Weights<'_>) -> [Tensor; 2] {
    [(previous, weights.q), (current, weights.k)].map(|(x, weight)| linear(&floats(x), weight))
}

/// Half of one minus the cosine of `q` and `k` `[…, width]`: `[…]`.
pub fn dissimilarity(q: &Tensor, k: &Tensor) -> Tensor {
    let unit = |y: &Tensor| {
        let norm = y
            .norm_scalaropt_dim(2, [-1i64].as_slice(), true)
            .clamp_min(1e-12);
        y / norm
    };
    let cosine = (unit(q) * unit(k)).sum_dim_intlist([-1i64].as_slice(), false, None);
    let distance: Tensor = (1.0 - cosine) / 2.0;
    distance.clamp(0.0, 1.0)
}

/// What goes past the inner stages: fp32, `[rows, width]` to the same.
pub fn residual(x: &Tensor, weights: &Weights<'_>) -> Tensor {
    linear_bias(&floats(x), weights.residual, Some(weights.residual_bias))
}

/// fp32, or fp64 where it is that.
fn floats(x: &Tensor) -> Tensor {
    match x.kind() {
        Kind::Double => x.shallow_clone(),
        _ => x.to_kind(Kind::Float),
    }
}

/// The limit below which the scattered number of a token makes it start a chunk.
fn limit(share: f64) -> i64 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as i64
}

/// A share of the tokens, evenly spread: multiples of the golden ratio, modulo one.
fn spread(total: i64, share: f64, device: Device) -> Tensor {
    let turns = Tensor::arange(total, (Kind::Int64, device)) * 0x9E37_79B1i64;
    turns.remainder(1i64 << 32).lt(limit(share))
}

/// Where chunks lie.
#[derive(Debug)]
pub struct Places {
    /// Chunks of each sequence.
    pub chunks: Vec<i64>,
    /// Tokens that start a chunk: i64 `[chunks of all sequences]`.
    pub boundaries: Tensor,
    /// For each token the row of `[chunks of all sequences; one carried row a sequence]`
    /// that it reads: i64 `[tokens]`.
    pub source: Tensor,
}

impl Places {
    /// Chunks of all sequences.
    pub fn total(&self) -> i64 {
        self.chunks.iter().sum()
    }
}

/// Finds the chunks of `mask` on its device, which is asked once: for the numbers of chunks.
/// Where sequences may go `on` from before, their first tokens can be without a chunk.
pub fn places(mask: &Tensor, layout: &Layout, on: bool) -> Places {
    let numbers = |totals: &Tensor| {
        let totals = Vec::<i64>::try_from(totals.to_device(Device::Cpu)).expect("counts are i64");
        let chunks: Vec<i64> = totals.windows(2).map(|pair| pair[1] - pair[0]).collect();
        (chunks, totals.last().copied().unwrap_or(0))
    };
    if !on && device::kernels_for(mask.device()) && runtime::operators_joined() {
        let inputs = [Some(mask), Some(layout.starts())];
        let [boundaries, source, totals] = device::call(device::cistron_places, &inputs, &[]);
        let (chunks, selected) = numbers(&totals);
        return Places {
            chunks,
            boundaries: boundaries.narrow(0, 0, selected),
            source,
        };
    }
    let options = (Kind::Int64, mask.device());
    // Chunks up to each token, with itself.
    let count = mask.cumsum(0, Kind::Int64);
    let none = Tensor::zeros([1], options);
    let before = Tensor::cat(&[&none, &count], 0).index_select(0, layout.cumulative());
    let (chunks, selected) = numbers(&before);
    // Tokens within a chunk go to a place behind the others, which is cut off.
    let tokens = Tensor::arange(layout.total(), options);
    let place = (&count - 1).where_self(mask, &Tensor::full([1], selected, options));
    let boundaries = Tensor::zeros([selected + 1], options)
        .scatter(0, &place, &tokens)
        .narrow(0, 0, selected);
    let source = if on {
        let rows = layout.rows();
        let inside = count.gt_tensor(&before.index_select(0, &rows));
        (&count - 1).where_self(&inside, &(rows + selected))
    } else {
        count - 1
    };
    Places {
        chunks,
        boundaries,
        source,
    }
}

/// The vectors of `x` `[tokens, width]` at the boundaries: `[chunks, width]`.
///
/// In bf16 on CUDA the gradient has the same bits from run to run.
pub fn gather(x: &Tensor, places: &Places, mask: &Tensor) -> Tensor {
    if fused(x) {
        let inputs = [x, &places.boundaries, &places.source, mask].map(Some);
        let [selected] = device::call(device::cistron_gather, &inputs, &[]);
        return selected;
    }
    x.index_select(0, &places.boundaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_lie_where_the_mask_says() {
        let mask = Tensor::from_slice(&[true, false, true, true, false]);
        let layout = Layout::new(&[3, 0, 2], Device::Cpu);
        let found = places(&mask, &layout, false);
        assert_eq!(found.chunks, [2, 0, 1]);
        assert_eq!(
            Vec::<i64>::try_from(&found.boundaries).expect("i64"),
            [0, 2, 3]
        );
        assert_eq!(
            Vec::<i64>::try_from(&found.source).expect("i64"),
            [0, 0, 1, 2, 2]
        );
        // A sequence that goes on reads its carried row until its first chunk.
        let mask = Tensor::from_slice(&[false, true, false, false, false]);
        let found = places(&mask, &layout, true);
        assert_eq!(found.chunks, [1, 0, 0]);
        assert_eq!(
            Vec::<i64>::try_from(&found.source).expect("i64"),
            [1, 0, 0, 3, 3]
        );
    }

    #[test]
    fn opposite_neighbours_start_a_chunk_and_equal_ones_do_not() {
        let options = (Kind::Float, Device::Cpu);
        let eye = Tensor::eye(4, options);
        let zeros = Tensor::zeros([4], options);
        let weights = Weights {
            q: &eye,
            k: &eye,
            residual: &eye,
            residual_bias: &zeros,
        };
        let row = Tensor::from_slice(&[1.0f32, 2.0, 0.0, -1.0]);
        let x = Tensor::stack(&[&row, &row, &-&row, &-&row], 0);
        let x = Packed::new(x, Layout::new(&[4], Device::Cpu));
        let decision = route(&x, &weights, None, None);
        let mask = Vec::<bool>::try_from(&decision.mask).expect("bool");
        assert_eq!(mask, [true, false, true, false]);
        assert_eq!(decision.residual, x.values);
    }
}
