//! The selective state-space scan (SSD, Mamba-2) in chunked matrix form.
//!
//! Per head: `h_t = e^{a_t} h_{t-1} + w_t x_t b_tᵀ`, `y_t = h_t c_t`, with
//! log-decay `a ≤ 0` and input weight `w`. Mamba-2 has `a = Δ A` and `w = Δ`;
//! the smoothing of H-Net's dechunk layer is the same with one head, `a =
//! ln(1 - p)`, `w = p` and `b = c = 1` (see [`crate::ema`]).
//!
//! Everything but the carry between chunks is a matrix product, as in the
//! state-space duality of Mamba-2 (Dao and Gu 2024, section 6).

use tch::{Kind, Tensor};

/// Tokens a chunk: the matrices within a chunk are `CHUNK × CHUNK`.
const CHUNK: i64 = 64;
/// Tokens handled at once, so that memory does not grow with the square of the
/// number of chunks.
const SEGMENT: i64 = 8192;

/// Inputs of a scan over a padded batch.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Log-decay `a` `[sequences, length, heads]`, zero at padding; its kind
    /// (fp32 or fp64) is the precision of the decays.
    pub log_decay: &'a Tensor,
    /// Input weight `w` `[sequences, length, heads]`, zero at padding.
    pub weight: &'a Tensor,
    /// Input `x` `[sequences, length, heads, head_dim]`.
    pub x: &'a Tensor,
    /// Input projection `b` `[sequences, length, state]`, shared by the heads.
    pub b: &'a Tensor,
    /// Output projection `c` `[sequences, length, state]`, shared by the heads.
    pub c: &'a Tensor,
}

impl Scan<'_> {
    fn narrow<T>(&self, start: i64, length: i64, run: impl FnOnce(Scan<'_>) -> T) -> T {
        let cut = |t: &Tensor| t.narrow(1, start, length);
        run(Scan {
            log_decay: &cut(self.log_decay),
            weight: &cut(self.weight),
            x: &cut(self.x),
            b: &cut(self.b),
            c: &cut(self.c),
        })
    }

    /// Runs the scan from `initial` (zeros when absent).
    ///
    /// Returns `y` `[sequences, length, heads, head_dim]` and the final state
    /// `[sequences, heads, head_dim, state]`; states have that shape throughout.
    pub fn run(&self, initial: Option<&Tensor>) -> (Tensor, Tensor) {
        let length = self.x.size()[1];
        let mut state = initial.map(Tensor::shallow_clone);
        let mut outputs = Vec::new();
        let mut start = 0;
        while start < length || outputs.is_empty() {
            let take = SEGMENT.min(length - start);
            let (y, last) = self.narrow(start, take, |part| part.segment(state.as_ref()));
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

    fn segment(&self, initial: Option<&Tensor>) -> (Tensor, Tensor) {
        let (sequences, length, heads, head_dim) = self
            .x
            .size4()
            .expect("x is [sequences, length, heads, head_dim]");
        let states = self.b.size()[2];
        let (kind, device) = (self.x.kind(), self.x.device());
        // States inside are [sequences, state, heads, head_dim]: no transposed copies of x.
        let initial = match initial {
            Some(initial) => initial.to_kind(kind).permute([0, 3, 1, 2]),
            None => Tensor::zeros([sequences, states, heads, head_dim], (kind, device)),
        };
        if length == 0 || sequences == 0 {
            return (self.x.shallow_clone(), initial.permute([0, 2, 3, 1]));
        }
        let chunk = CHUNK.min(length);
        let chunks = (length + chunk - 1) / chunk;
        let excess = chunks * chunk - length;
        let split = |t: &Tensor| {
            let mut shape = t.size();
            shape.splice(1..2, [chunks, chunk]);
            if excess == 0 {
                return t.reshape(&shape);
            }
            let mut padding = vec![0; 2 * t.dim()];
            padding[2 * t.dim() - 3] = excess;
            t.constant_pad_nd(&padding).reshape(&shape)
        };
        let (x, b, c) = (split(self.x), split(self.b), split(self.c));
        let weight = split(self.weight);
        // Decay from the start of its chunk to each token: [s, chunks, chunk, heads].
        let decay = split(self.log_decay).cumsum(2, None);

        // Within chunks: [s, chunks, heads, chunk, chunk] matrices applied to x.
        let mixing = chunk_matrix(&decay, &weight, &b, &c, kind);
        let within = mixing.matmul(&x.transpose(2, 3)).transpose(2, 3);

        // What each chunk adds to the state, and how much it keeps of it.
        let total = decay.narrow(2, chunk - 1, 1);
        let to_end = (&total - &decay).exp().to_kind(kind) * &weight;
        let weighted =
            (&x * to_end.unsqueeze(-1)).reshape([sequences, chunks, chunk, heads * head_dim]);
        let added = b
            .transpose(2, 3)
            .matmul(&weighted)
            .reshape([sequences, chunks, states, heads, head_dim]);
        let kept = total.squeeze_dim(2).exp().to_kind(kind);

        let mut carried = Vec::with_capacity(chunks as usize);
        let mut state = initial;
        for i in 0..chunks {
            let keep = kept.select(1, i).unsqueeze(1).unsqueeze(-1);
            let next = added.select(1, i).addcmul(&state, &keep);
            carried.push(state);
            state = next;
        }
        let carried =
            Tensor::stack(&carried, 1).reshape([sequences, chunks, states, heads * head_dim]);
        let across = c
            .matmul(&carried)
            .reshape([sequences, chunks, chunk, heads, head_dim])
            * decay.exp().to_kind(kind).unsqueeze(-1);

        let y = (within + across)
            .reshape([sequences, chunks * chunk, heads, head_dim])
            .narrow(1, 0, length);
        (y, state.permute([0, 2, 3, 1]))
    }

    /// The scan from a zero state as one matrix a head: `y[t] = Σ_s matrix[t, s] x[s]`.
    ///
    /// `[sequences, heads, length, length]`, zero above the diagonal.
    pub fn matrix(&self) -> Tensor {
        let one = |t: &Tensor| t.unsqueeze(1);
        let decay = one(self.log_decay).cumsum(2, None);
        chunk_matrix(
            &decay,
            &one(self.weight),
            &one(self.b),
            &one(self.c),
            self.x.kind(),
        )
        .squeeze_dim(1)
    }
}

/// `e^{decay_t - decay_s} w_s (c_t · b_s)` for `s ≤ t`: `[s, chunks, heads, chunk, chunk]`.
fn chunk_matrix(decay: &Tensor, weight: &Tensor, b: &Tensor, c: &Tensor, kind: Kind) -> Tensor {
    let chunk = decay.size()[2];
    let decay = decay.transpose(2, 3);
    let above = Tensor::ones([chunk, chunk], (Kind::Bool, decay.device())).triu(1);
    let between = (decay.unsqueeze(-1) - decay.unsqueeze(-2))
        .masked_fill(&above, f64::NEG_INFINITY)
        .exp()
        .to_kind(kind);
    let scores = c.matmul(&b.transpose(2, 3)).unsqueeze(2);
    between * scores * weight.transpose(2, 3).unsqueeze(-2)
}

/// One token: updates `state` `[rows, heads, head_dim, state]` and reads it.
///
/// `log_decay`, `weight`: `[rows, heads]`; `x`: `[rows, heads, head_dim]`;
/// `b`, `c`: `[rows, state]`. Returns `y` `[rows, heads, head_dim]` and the new state.
pub fn step(
    log_decay: &Tensor,
    weight: &Tensor,
    x: &Tensor,
    b: &Tensor,
    c: &Tensor,
    state: &Tensor,
) -> (Tensor, Tensor) {
    let keep = log_decay
        .exp()
        .to_kind(x.kind())
        .unsqueeze(-1)
        .unsqueeze(-1);
    let input = (x * weight.unsqueeze(-1)).unsqueeze(-1) * b.unsqueeze(1).unsqueeze(1);
    let state = state * keep + input;
    let y =
        (&state * c.unsqueeze(1).unsqueeze(1)).sum_dim_intlist([-1i64].as_slice(), false, x.kind());
    (y, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use proptest::prelude::*;
    use tch::Device;

    struct Inputs {
        log_decay: Tensor,
        weight: Tensor,
        x: Tensor,
        b: Tensor,
        c: Tensor,
        initial: Tensor,
    }

    fn inputs(seed: i64, length: i64) -> Inputs {
        let _held = seeded(seed);
        let options = (Kind::Float, Device::Cpu);
        let (sequences, heads, head_dim, states) = (2, 3, 5, 4);
        Inputs {
            log_decay: -Tensor::rand([sequences, length, heads], options),
            weight: Tensor::rand([sequences, length, heads], options),
            x: Tensor::randn([sequences, length, heads, head_dim], options),
            b: Tensor::randn([sequences, length, states], options),
            c: Tensor::randn([sequences, length, states], options),
            initial: Tensor::randn([sequences, heads, head_dim, states], options),
        }
    }

    impl Inputs {
        fn scan(&self) -> Scan<'_> {
            let Self {
                log_decay,
                weight,
                x,
                b,
                c,
                ..
            } = self;
            Scan {
                log_decay,
                weight,
                x,
                b,
                c,
            }
        }

        fn sequential(&self) -> (Tensor, Tensor) {
            let mut state = self.initial.shallow_clone();
            let mut outputs = Vec::new();
            for t in 0..self.x.size()[1] {
                let at = |v: &Tensor| v.select(1, t);
                let (y, next) = step(
                    &at(&self.log_decay),
                    &at(&self.weight),
                    &at(&self.x),
                    &at(&self.b),
                    &at(&self.c),
                    &state,
                );
                outputs.push(y);
                state = next;
            }
            (Tensor::stack(&outputs, 1), state)
        }
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn chunked_equals_sequential(seed in 0i64..1000, length in 1i64..200) {
            let inputs = inputs(seed, length);
            let (y, state) = inputs.scan().run(Some(&inputs.initial));
            let (expected, last) = inputs.sequential();
            prop_assert!(distance(&y, &expected) < 1e-4);
            prop_assert!(distance(&state, &last) < 1e-4);
        }

        #[test]
        fn splitting_with_the_state_changes_nothing(seed in 0i64..1000, cut in 0i64..151) {
            let inputs = inputs(seed, 150);
            let (whole, last) = inputs.scan().run(Some(&inputs.initial));
            let (left, state) = inputs.scan().narrow(0, cut, |s| s.run(Some(&inputs.initial)));
            let (right, end) = inputs.scan().narrow(cut, 150 - cut, |s| s.run(Some(&state)));
            prop_assert!(distance(&whole, &Tensor::cat(&[left, right], 1)) < 1e-4);
            prop_assert!(distance(&last, &end) < 1e-4);
        }
    }

    #[test]
    fn the_matrix_is_the_scan() {
        let inputs = inputs(5, 90);
        let (y, _) = inputs.scan().run(None);
        let applied = inputs
            .scan()
            .matrix()
            .matmul(&inputs.x.transpose(1, 2))
            .transpose(1, 2);
        assert!(distance(&y, &applied) < 1e-4);
    }
}
