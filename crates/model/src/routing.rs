//! Dynamic chunking: where chunks start, what goes inwards, and how it comes back
//! (H-Net, section 2.2).

use std::sync::Arc;

use cistron_kernels::{Layout, Packed, ema, upload};
use tch::{Device, Kind, Tensor};

use crate::config::{Config, Numerics};
use crate::params::Params;
use crate::rule::Rule;

/// Clamp of the probabilities in the dechunk layer.
const FLOOR: f64 = 1e-4;

/// What a router decided for one stage.
#[derive(Debug)]
pub struct Routing {
    /// Probability that a chunk starts at each token: fp32 `[tokens]`.
    pub prob: Tensor,
    /// Whether one does: bool `[tokens]`.
    pub mask: Tensor,
    /// Tokens of each sequence at this stage.
    pub lengths: Vec<i64>,
    /// Chunks of each sequence, the tokens of the next stage.
    pub chunks: Vec<i64>,
}

/// The router: cosine dissimilarity of neighbouring tokens.
#[derive(Debug)]
pub(crate) struct Router {
    q: Tensor,
    k: Tensor,
    numerics: Numerics,
    rule: Option<Rule>,
}

/// A packed batch cut into chunks.
pub(crate) struct Chunked {
    prob: Tensor,
    mask: Tensor,
    /// Vectors at the boundaries, with their layout.
    pub selected: Packed,
    /// For each token the row of `[chunks of all sequences; one carried row a sequence]`
    /// that it reads: i64 `[tokens]`.
    source: Tensor,
    boundaries: Tensor,
}

impl Router {
    pub fn new(config: &Config, stage: usize, prefix: &str, params: &Params) -> Self {
        let get =
            |name: &str| params.tensor(&format!("{prefix}routing_module.{name}_proj_layer.weight"));
        Self {
            q: get("q"),
            k: get("k"),
            numerics: config.cistron.numerics,
            rule: Rule::new(config.cistron.chunking, config.ratio(stage)),
        }
    }

    /// `(1 - cos(W_q previous, W_k current)) / 2` in fp32: `[tokens]`.
    fn probability(&self, previous: &Tensor, current: &Tensor) -> Tensor {
        let unit = |x: &Tensor, weight: &Tensor| {
            let y = x.to_kind(Kind::Float).linear(weight, None::<&Tensor>);
            let norm = y
                .norm_scalaropt_dim(2, [-1i64].as_slice(), true)
                .clamp_min(1e-12);
            y / norm
        };
        let cosine = (unit(previous, &self.q) * unit(current, &self.k)).sum_dim_intlist(
            [-1i64].as_slice(),
            false,
            Kind::Float,
        );
        let distance: Tensor = (1.0 - cosine) / 2.0;
        distance.clamp(0.0, 1.0)
    }

    /// Cuts `x` into chunks. `before` holds the last vector of each sequence
    /// `[sequences, width]` and its number of tokens so far; the first token ever is a boundary.
    /// A `share` overrules the probabilities (see `Compute::selection`).
    pub fn chunk(
        &self,
        x: &Packed,
        before: Option<(&Tensor, &[i64])>,
        share: Option<f64>,
    ) -> (Chunked, Routing) {
        let (layout, device) = (&x.layout, x.values.device());
        let total = layout.total();
        let starts: Vec<(usize, i64)> = layout
            .offsets()
            .iter()
            .zip(layout.lengths())
            .enumerate()
            .filter(|(_, (_, length))| **length > 0)
            .map(|(row, (&offset, _))| (row, offset))
            .collect();
        let first: Vec<i64> = starts
            .iter()
            .filter(|(row, _)| before.is_none_or(|(_, seen)| seen[*row] == 0))
            .map(|&(_, offset)| offset)
            .collect();
        let rows: Vec<i64> = starts.iter().map(|&(row, _)| row as i64).collect();
        let offsets: Vec<i64> = starts.iter().map(|&(_, offset)| offset).collect();
        let tensor = |list: &[i64]| upload(list, device);

        let prob = match self.rule {
            Some(rule) => {
                let seen = before.map(|(_, seen)| tensor(seen).index_select(0, &layout.rows()));
                rule.starts(&match seen {
                    Some(seen) => layout.positions() + seen,
                    None => layout.positions().shallow_clone(),
                })
            }
            None => {
                let mut previous = Tensor::cat(
                    &[
                        x.values.narrow(0, 0, total.min(1)),
                        x.values.narrow(0, 0, (total - 1).max(0)),
                    ],
                    0,
                );
                if let Some((last, _)) = before {
                    let last = last
                        .index_select(0, &tensor(&rows))
                        .to_kind(previous.kind());
                    previous = previous.index_copy(0, &tensor(&offsets), &last);
                }
                self.probability(&previous, &x.values)
                    .index_fill(0, &tensor(&first), 1.0)
            }
        };
        let mask = match share {
            None => prob.gt(0.5),
            Some(share) => spread(total, share, device).index_fill(0, &tensor(&first), 1),
        };

        let Places {
            chunks,
            boundaries,
            source,
        } = places(&mask, layout, before.is_some());
        let inner = Layout::new(&chunks, device);
        let chunked = Chunked {
            prob: prob.shallow_clone(),
            mask: mask.shallow_clone(),
            selected: Packed::new(x.values.index_select(0, &boundaries), inner),
            source,
            boundaries,
        };
        (
            chunked,
            Routing {
                prob,
                mask,
                lengths: layout.lengths().to_vec(),
                chunks,
            },
        )
    }

    /// One token: `previous` and `current` `[rows, width]`, and the number of tokens before,
    /// i64 `[rows]`; probability fp32 `[rows]`.
    pub fn step(&self, previous: &Tensor, current: &Tensor, seen: &Tensor) -> Tensor {
        match self.rule {
            Some(rule) => rule.starts(seen),
            None => self
                .probability(previous, current)
                .masked_fill(&seen.eq(0), 1.0),
        }
    }

    /// The probability as the dechunk layer uses it.
    pub fn smoothing(&self, prob: &Tensor) -> Tensor {
        let ceiling = match self.numerics {
            Numerics::Strict => 1.0,
            Numerics::Parity => 1.0 - FLOOR,
        };
        prob.to_kind(Kind::Float).clamp(FLOOR, ceiling)
    }

    /// Smooths the chunks `z`, brings them back to the tokens, and scales them by a
    /// confidence that is one forwards and carries the gradient backwards.
    ///
    /// Returns `[tokens, width]` in fp32 and the average after each sequence `[sequences, width]`.
    pub fn dechunk(
        &self,
        z: &Packed,
        chunked: &Chunked,
        average: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let prob = &chunked.prob;
        let p = self.smoothing(&prob.index_select(0, &chunked.boundaries));
        let (smoothed, last) = ema::smooth(&z.values, &p, &z.layout, average);
        let table = match average {
            Some(average) => Tensor::cat(&[&smoothed, &average.to_kind(Kind::Float)], 0),
            None => smoothed,
        };
        let other: Tensor = 1.0 - prob;
        let confidence = prob.where_self(&chunked.mask, &other);
        let rest: Tensor = 1.0 - &confidence;
        let straight_through = &confidence + rest.detach();
        (
            table.index_select(0, &chunked.source) * straight_through.unsqueeze(-1),
            last,
        )
    }
}

/// Where chunks lie.
struct Places {
    /// Chunks of each sequence.
    chunks: Vec<i64>,
    /// Tokens that start a chunk: i64 `[chunks]`.
    boundaries: Tensor,
    /// See [`Chunked::source`].
    source: Tensor,
}

/// Finds the chunks of `mask` on its device, which is asked once: for the numbers of chunks.
/// Where sequences may go `on` from before, their first tokens can be without a chunk.
fn places(mask: &Tensor, layout: &Layout, on: bool) -> Places {
    let options = (Kind::Int64, mask.device());
    // Chunks up to each token, with itself.
    let count = mask.cumsum(0, Kind::Int64);
    let none = Tensor::zeros([1], options);
    let before = Tensor::cat(&[&none, &count], 0).index_select(0, layout.cumulative());
    let totals = Vec::<i64>::try_from(before.to_device(Device::Cpu)).expect("counts are i64");
    let chunks = totals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let selected = totals.last().copied().unwrap_or(0);
    // Tokens within a chunk go to a place behind the others, which is cut off.
    let numbers = Tensor::arange(layout.total(), options);
    let place = (&count - 1).where_self(mask, &Tensor::full([1], selected, options));
    let boundaries = Tensor::zeros([selected + 1], options)
        .scatter(0, &place, &numbers)
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

/// A share of the tokens, evenly spread: multiples of the golden ratio, modulo one.
fn spread(total: i64, share: f64, device: Device) -> Tensor {
    let turns = Tensor::arange(total, (Kind::Int64, device)) * 0x9E37_79B1i64;
    let limit = (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as i64;
    turns.remainder(1i64 << 32).lt(limit)
}

impl Chunked {
    /// Layout of the chunks.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.selected.layout
    }
}
