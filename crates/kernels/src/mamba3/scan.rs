//! The scan of Mamba-3 in chunked matrix form, SISO and MIMO.
//!
//! Per head, with log-decay `a ≤ 0`, weights `w` (in every later state) and `γ` (in a token's own
//! output), and B and C turned by the angles `φ_t = Σ_{s≤t} Δ_s θ_s`:
//!
//! `y_t = Σ_{s<t} e^{a_{s+1} + … + a_t} w_s (c_t · b_s) x_s + γ_t (c_t · b_t) x_t + e^{a_1 + … + a_t} h c_t + D x_t`
//!
//! Everything but the carry between chunks is a matrix product. Angles restart in every chunk: the
//! state is turned back by a chunk's whole angle where one chunk hands over to the next, one complex
//! factor a pair of channels, so that angles stay small however long the sequence.

use std::f64::consts::TAU;

use tch::{Kind, Tensor};

/// Rows of the matrices within a chunk: `CHUNK / rank` tokens, [`FEWEST`] at least.
const CHUNK: i64 = 64;
/// Fewest tokens a chunk: the carry is for each chunk.
const FEWEST: i64 = 16;
/// Rows, over all sequences, that are handled at once where no gradient is asked for.
const SEGMENT: i64 = 8192;

/// Inputs of a scan over a padded batch. Channels of `b` and `c` turn in pairs of neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Input `[sequences, length, heads, rank, head_dim]`.
    pub x: &'a Tensor,
    /// Input projection `[sequences, length, rank, groups, state]`.
    pub b: &'a Tensor,
    /// Output projection, like `b`.
    pub c: &'a Tensor,
    /// Added to `b`: `[heads, rank, state]`.
    pub b_bias: &'a Tensor,
    /// Added to `c`, like `b_bias`.
    pub c_bias: &'a Tensor,
    /// `θ`: `[sequences, length, angles]`, or for each head `[sequences, length, heads, angles]`.
    pub theta: &'a Tensor,
    /// `Δ`: `[sequences, length, heads]`, zero at padding.
    pub delta: &'a Tensor,
    /// `a ≤ 0`, like `delta`; its kind (fp32 or fp64) is that of the scan.
    pub log_decay: &'a Tensor,
    /// `w`, like `delta`.
    pub weight: &'a Tensor,
    /// `γ`, like `delta`.
    pub gamma: &'a Tensor,
}

/// The inputs by chunk and head; rows are the tokens of a chunk with their ranks.
struct Chunked {
    /// Decay from before the chunk to after each token: `[s, chunks, heads, tokens]`.
    decay: Tensor,
    weight: Tensor,
    gamma: Tensor,
    /// `[s, chunks, heads, rows, head_dim]`.
    x: Tensor,
    /// `[s, chunks, heads, rows, state]`.
    b: Tensor,
    c: Tensor,
    /// Turns back by the chunk's whole angle: complex `[s, chunks, heads, 1, state / 2]`.
    back: Option<Tensor>,
    rank: i64,
}

/// `e^{iφ}` for `[…, angles]`, and 1 for the pairs that do not turn: complex `[…, pairs]`.
fn units(angle: &Tensor, pairs: i64) -> Tensor {
    let angles = angle.size().last().copied().unwrap_or(0);
    let angle = angle.constant_pad_nd([0, pairs - angles]);
    Tensor::stack(&[angle.cos(), angle.sin()], -1).view_as_complex()
}

/// Pairs of neighbouring channels as complex numbers: `[…, n]` to `[…, n / 2]`.
fn complex(x: &Tensor) -> Tensor {
    let mut shape = x.size();
    let channels = shape.pop().unwrap_or(0);
    shape.extend([channels / 2, 2]);
    x.reshape(shape).contiguous().view_as_complex()
}

/// The inverse of [`complex`].
fn real(x: &Tensor) -> Tensor {
    x.view_as_real().flatten(-2, -1)
}

/// Pairs of neighbouring channels of `x` `[…, state]` turned by `angle` `[…, angles]`, which
/// broadcasts; pairs from `angles` on stay as they are.
pub fn turn(x: &Tensor, angle: &Tensor) -> Tensor {
    if angle.size().last() == Some(&0) {
        return x.shallow_clone();
    }
    let pairs = x.size().last().copied().unwrap_or(0) / 2;
    real(&(complex(x) * units(angle, pairs)))
}

impl Scan<'_> {
    fn narrow<T>(&self, start: i64, length: i64, run: impl FnOnce(Scan<'_>) -> T) -> T {
        let cut = |t: &Tensor| t.narrow(1, start, length);
        run(Scan {
            x: &cut(self.x),
            b: &cut(self.b),
            c: &cut(self.c),
            theta: &cut(self.theta),
            delta: &cut(self.delta),
            log_decay: &cut(self.log_decay),
            weight: &cut(self.weight),
            gamma: &cut(self.gamma),
            ..*self
        })
    }

    /// Runs the scan from `initial` `[sequences, heads, head_dim, state]` (zeros when absent).
    ///
    /// Returns `y` `[sequences, length, heads, rank, head_dim]` without the skip, and the state
    /// after the last token, turned back by the last angle.
    pub fn run(&self, initial: Option<&Tensor>) -> (Tensor, Tensor) {
        let rank = self.x.size()[3];
        self.run_by(initial, (CHUNK / rank).max(FEWEST))
    }

    /// [`Scan::run`] in chunks of `chunk` tokens, which changes rounding alone.
    pub fn run_by(&self, initial: Option<&Tensor>, chunk: i64) -> (Tensor, Tensor) {
        let (sequences, length, rank) = (self.x.size()[0], self.x.size()[1], self.x.size()[3]);
        let segment = (SEGMENT / (sequences.max(1) * rank * chunk)).max(4) * chunk;
        let mut state = initial.map(Tensor::shallow_clone);
        let (mut outputs, mut start) = (Vec::new(), 0);
        while start < length || outputs.is_empty() {
            let take = segment.min(length - start);
            let (y, last) = self.narrow(start, take, |part| part.segment(state.as_ref(), chunk));
            outputs.push(y);
            state = Some(last);
            start += take;
        }
        let y = if outputs.len() == 1 {
            outputs.remove(0)
        } else {
            Tensor::cat(&outputs, 1)
        };
        (y, state.expect("one segment at least has run"))
    }

    /// The scan from a zero state as matrices: `[sequences, heads * rank * rank, length, length]`,
    /// one for each head, rank of the output and rank of the input.
    pub fn matrix(&self) -> Tensor {
        let (sequences, length, rank) = (self.x.size()[0], self.x.size()[1], self.x.size()[3]);
        self.chunked(length)
            .mixing()
            .reshape([sequences, -1, length, rank, length, rank])
            .permute([0, 1, 3, 5, 2, 4])
            .reshape([sequences, -1, length, length])
    }

    fn chunked(&self, chunk: i64) -> Chunked {
        let (heads, rank) = (self.x.size()[2], self.x.size()[3]);
        let kind = self.log_decay.kind();
        let (sequences, length) = (self.x.size()[0], self.x.size()[1]);
        let (groups, states) = (self.b.size()[3], self.b.size()[4]);
        let chunks = (length + chunk - 1) / chunk;
        let excess = chunks * chunk - length;
        let split = |t: &Tensor| {
            let mut shape = t.size();
            shape.splice(1..2, [chunks, chunk]);
            if excess == 0 {
                return t.to_kind(kind).reshape(&shape);
            }
            let mut padding = vec![0; 2 * t.dim()];
            padding[2 * t.dim() - 3] = excess;
            t.to_kind(kind).constant_pad_nd(&padding).reshape(&shape)
        };
        let by_head = |t: &Tensor| split(t).transpose(2, 3);
        let units = (self.theta.size().last() != Some(&0)).then(|| {
            let theta = split(self.theta);
            let theta = if theta.dim() == 4 {
                theta.unsqueeze(3)
            } else {
                theta
            };
            // Summed in fp64 and taken into [0, 2π), so that rounding is that of one angle.
            let angle = (split(self.delta).unsqueeze(-1) * theta)
                .cumsum(2, Kind::Double)
                .remainder(TAU)
                .to_kind(kind)
                .transpose(2, 3);
            units(&angle, states / 2)
        });
        let project = |t: &Tensor, bias: &Tensor| {
            let t = split(t).permute([0, 1, 4, 2, 3, 5]).unsqueeze(3);
            let bias = bias
                .to_kind(kind)
                .reshape([groups, heads / groups, 1, rank, states]);
            let t = (t + bias).reshape([sequences, chunks, heads, chunk, rank, states]);
            let turned = match &units {
                Some(units) => real(&(complex(&t) * units.unsqueeze(4))),
                None => t,
            };
            turned.reshape([sequences, chunks, heads, chunk * rank, states])
        };
        let x = by_head(self.x);
        Chunked {
            decay: by_head(self.log_decay).cumsum(3, None),
            weight: by_head(self.weight),
            gamma: by_head(self.gamma),
            x: x.reshape([sequences, chunks, heads, chunk * rank, -1]),
            b: project(self.b, self.b_bias),
            c: project(self.c, self.c_bias),
            back: units.map(|units| units.narrow(3, chunk - 1, 1).conj_physical()),
            rank,
        }
    }

    fn segment(&self, initial: Option<&Tensor>, chunk: i64) -> (Tensor, Tensor) {
        let [sequences, length, heads, rank, head_dim] = self.x.size()[..] else {
            panic!("x is [sequences, length, heads, rank, head_dim]");
        };
        let states = self.b.size()[4];
        let options = (self.log_decay.kind(), self.x.device());
        let initial = match initial {
            Some(initial) => initial.to_kind(options.0),
            None => Tensor::zeros([sequences, heads, head_dim, states], options),
        };
        if length == 0 || sequences == 0 {
            return (self.x.to_kind(options.0), initial);
        }
        let chunk = chunk.min(length);
        let parts = self.chunked(chunk);
        let within = parts.mixing().matmul(&parts.x);
        let (carried, last) = parts.carry(initial);
        let across = parts.c.matmul(&carried.transpose(-1, -2)) * parts.by_row(&parts.decay.exp());
        let y = (within + across)
            .reshape([sequences, -1, heads, chunk, rank, head_dim])
            .transpose(2, 3)
            .reshape([sequences, -1, heads, rank, head_dim])
            .narrow(1, 0, length);
        (y, last)
    }
}

impl Chunked {
    /// One value a token `[…, tokens]` as a factor of rows: `[…, rows, 1]`.
    fn by_row(&self, values: &Tensor) -> Tensor {
        let values = values.unsqueeze(-1);
        if self.rank == 1 {
            return values;
        }
        values.repeat_interleave_self_int(self.rank, values.dim() as i64 - 2, None)
    }

    /// What a chunk does to its own rows: `[s, chunks, heads, rows, rows]`.
    ///
    /// A token's own output takes its weight `γ` from the diagonal, and never the difference of
    /// sums that hold `w`: that would let what comes next leak into it through rounding.
    fn mixing(&self) -> Tensor {
        let tokens = self.decay.size()[3];
        let scores = self.c.matmul(&self.b.transpose(-1, -2));
        let above = Tensor::ones([tokens, tokens], (Kind::Bool, scores.device())).triu(0);
        let between = (self.decay.unsqueeze(-1) - self.decay.unsqueeze(-2))
            .masked_fill(&above, f64::NEG_INFINITY)
            .exp()
            * self.weight.unsqueeze(-2)
            + self.gamma.diag_embed(0, -2, -1);
        if self.rank == 1 {
            return scores * between;
        }
        let shape = scores.size();
        let mut wide = shape[..3].to_vec();
        wide.extend([tokens, self.rank, tokens, self.rank]);
        (scores.reshape(wide) * between.unsqueeze(-1).unsqueeze(-3)).reshape(shape)
    }

    /// States before each chunk `[s, chunks, heads, head_dim, state]`, each in the frame of its
    /// chunk, and the state after the last.
    fn carry(&self, initial: Tensor) -> (Tensor, Tensor) {
        let (chunks, tokens) = (self.decay.size()[1], self.decay.size()[3]);
        let total = self.decay.narrow(3, tokens - 1, 1);
        let to_end = (&total - &self.decay).exp() * &self.weight;
        let added = (&self.x * self.by_row(&to_end))
            .transpose(-1, -2)
            .matmul(&self.b);
        let kept = total.exp().unsqueeze(-1);
        let (added, kept, mut state) = match &self.back {
            Some(back) => (complex(&added) * back, back * kept, complex(&initial)),
            None => (added, kept, initial),
        };
        let mut carried = Vec::with_capacity(chunks as usize);
        for i in 0..chunks {
            let next = added.select(1, i) + &state * kept.select(1, i);
            carried.push(state);
            state = next;
        }
        let carried = Tensor::stack(&carried, 1);
        match self.back {
            Some(_) => (real(&carried), real(&state)),
            None => (carried, state),
        }
    }
}
