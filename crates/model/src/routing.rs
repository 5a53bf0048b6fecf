//! Dynamic chunking: where chunks start, what goes inwards, and how it comes back
//! (H-Net, section 2.2).

use std::sync::Arc;

use cistron_kernels::chunk::{self, Before, Places, Weights};
use cistron_kernels::dechunk::{self, Ceiling, Dechunk};
use cistron_kernels::{Layout, Packed, step, upload};
use tch::Tensor;

use crate::config::{Config, Numerics};
use crate::params::Params;
use crate::rule::Rule;

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

/// The router: cosine dissimilarity of neighbouring tokens; with it, what goes past the
/// inner stages.
#[derive(Debug)]
pub(crate) struct Router {
    q: Tensor,
    k: Tensor,
    rule: Option<Rule>,
    residual_weight: Tensor,
    residual_bias: Tensor,
    ceiling: Ceiling,
}

/// A packed batch cut into chunks.
pub(crate) struct Chunked {
    prob: Tensor,
    mask: Tensor,
    places: Places,
    /// fp32 `[tokens, width]`, added to what comes back.
    residual: Tensor,
    tokens: Arc<Layout>,
    /// Vectors at the boundaries, with their layout.
    pub selected: Packed,
}

impl Router {
    pub fn new(config: &Config, stage: usize, prefix: &str, params: &Params) -> Self {
        let get = |name: &str| params.tensor(&format!("{prefix}{name}"));
        Self {
            rule: Rule::new(config.cistron.chunking, stage, config.ratio(stage)),
            q: get("routing_module.q_proj_layer.weight"),
            k: get("routing_module.k_proj_layer.weight"),
            residual_weight: get("residual_proj.weight"),
            residual_bias: get("residual_proj.bias"),
            ceiling: match config.cistron.numerics {
                Numerics::Strict => Ceiling::One,
                Numerics::Parity => Ceiling::BelowOne,
            },
        }
    }

    fn weights(&self) -> Weights<'_> {
        Weights {
            q: &self.q,
            k: &self.k,
            residual: &self.residual_weight,
            residual_bias: &self.residual_bias,
        }
    }

    /// Cuts `x` into chunks. `before` holds the last vector of each sequence
    /// `[sequences, width]` and its number of tokens so far; the first token ever is a boundary.
    /// `marks`, bool `[tokens]`, say where chunks start if the rule asks for them. A `share`
    /// overrules the probabilities (see `Compute::selection`).
    pub fn chunk(
        &self,
        x: &Packed,
        before: Option<(&Tensor, &[i64])>,
        marks: Option<&Tensor>,
        share: Option<f64>,
    ) -> (Chunked, Routing) {
        let layout = &x.layout;
        let before = before.map(|(last, seen)| Before { last, seen });
        let decision = match self.rule {
            Some(rule) => {
                let seen = before.map(|before| {
                    upload(before.seen, x.values.device()).index_select(0, &layout.rows())
                });
                let places = match seen {
                    Some(seen) => layout.positions() + seen,
                    None => layout.positions().shallow_clone(),
                };
                let prob = rule.starts(&places, marks);
                chunk::decide(prob, x, &self.weights(), before, share)
            }
            None => chunk::route(x, &self.weights(), before, share),
        };
        let places = chunk::places(&decision.mask, layout, before.is_some());
        let inner = Layout::new(&places.chunks, x.values.device());
        let selected = chunk::gather(&x.values, &places, &decision.mask);
        let routing = Routing {
            prob: decision.prob.shallow_clone(),
            mask: decision.mask.shallow_clone(),
            lengths: layout.lengths().to_vec(),
            chunks: places.chunks.clone(),
        };
        let chunked = Chunked {
            prob: decision.prob,
            mask: decision.mask,
            places,
            residual: decision.residual,
            tokens: Arc::clone(layout),
            selected: Packed::new(selected, inner),
        };
        (chunked, routing)
    }

    /// One token without a mark: `previous` and `current` `[rows, width]`, and the number of tokens
    /// before, i64 `[rows]`; probability fp32 `[rows]`.
    pub fn step(&self, previous: &Tensor, current: &Tensor, seen: &Tensor) -> Tensor {
        match self.rule {
            Some(rule) => rule.starts(seen, None),
            None => {
                chunk::probability(previous, current, &self.weights()).masked_fill(&seen.eq(0), 1.0)
            }
        }
    }

    /// One token of every row: `now` `[rows, width]`, after `last` and `seen` tokens, which rows of
    /// `mask` move on. The probability that a chunk starts, and whether one does.
    pub fn decode(
        &self,
        now: &Tensor,
        mask: &Tensor,
        last: &mut Tensor,
        seen: &mut Tensor,
    ) -> [Tensor; 2] {
        if let Some(rule) = self.rule {
            let prob = rule.starts(seen, None);
            let starting = step::pass(&prob, now, mask, last, seen);
            return [prob, starting];
        }
        let [q, k] = &chunk::vectors(last, now, &self.weights());
        step::route(step::Route { q, k, now, mask }, last, seen)
    }

    /// Greatest weight of a new chunk in the average.
    pub fn ceiling(&self) -> Ceiling {
        self.ceiling
    }

    /// What goes past the inner stages: fp32, `[rows, width]` to the same.
    pub fn residual(&self, encoded: &Tensor) -> Tensor {
        chunk::residual(encoded, &self.weights())
    }

    /// The probability as the dechunk layer uses it.
    pub fn smoothing(&self, prob: &Tensor) -> Tensor {
        dechunk::smoothing(prob, self.ceiling)
    }

    /// Smooths the chunks `z`, brings them back to the tokens, scales them by a confidence that
    /// is one forwards and carries the gradient backwards, and adds the residual.
    ///
    /// Returns `[tokens, width]` in fp32 and, when asked to `keep` it, the average after each
    /// sequence `[sequences, width]`.
    pub fn dechunk(
        &self,
        z: &Packed,
        chunked: &Chunked,
        average: Option<&Tensor>,
        keep: bool,
    ) -> (Tensor, Option<Tensor>) {
        Dechunk {
            z,
            prob: &chunked.prob,
            mask: &chunked.mask,
            places: &chunked.places,
            positions: chunked.tokens.positions(),
            residual: &chunked.residual,
            average,
            ceiling: self.ceiling,
        }
        .run(keep)
    }
}

impl Chunked {
    /// Layout of the chunks.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.selected.layout
    }
}
