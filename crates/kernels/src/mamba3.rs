//! What lies between the projections of a Mamba-3 mixer, over packed sequences with carried memory.
//!
//! Per head, with `α = e^a`, `β = (1 - λ) Δ α`, `γ = λ Δ`, and B and C turned by the angles
//! `φ_t = φ_{t-1} + Δ_t θ_t`:
//!
//! `h_t = α_t h_{t-1} + β_t Σ_r x_{t-1,r} b_{t-1,r}ᵀ + γ_t Σ_r x_{t,r} b_{t,r}ᵀ`, `y_{t,r} = h_t c_{t,r} + D x_{t,r}`
//!
//! With `σ_t = (1 - λ_{t+1}) Δ_{t+1}`, zero at the end of a sequence, a token has the weight
//! `γ_t + σ_t` in every later state and `γ_t` in its own output: the form of [`Scan`] and of
//! [`crate::ssm::Scan`]. A memory at the angle φ is the one at the angle zero with its channels
//! turned back by φ, so that scans start at the angle zero and no angle grows.

mod scan;

use std::f64::consts::{PI, TAU};

use tch::{Device, Kind, Tensor};

pub use scan::{Scan, turn};

use crate::{Layout, device, ssm, upload};

/// Memory between two tokens: fp32, or fp64.
#[derive(Debug)]
pub struct Memory {
    /// `[sequences, heads, angles]`, in [0, 2π).
    pub angle: Tensor,
    /// `[sequences, heads, head_dim, state]`.
    pub ssm: Tensor,
    /// The last B, biased and turned: `[sequences, rank, heads, state]`.
    pub k: Tensor,
    /// The last x: `[sequences, heads, head_dim]`.
    pub v: Tensor,
}

impl Memory {
    /// The four tensors changed by `change`.
    #[must_use]
    pub fn map(&self, mut change: impl FnMut(&Tensor) -> Tensor) -> Self {
        Self {
            angle: change(&self.angle),
            ssm: change(&self.ssm),
            k: change(&self.k),
            v: change(&self.v),
        }
    }
}

/// What a mixer's projection holds for each packed token, and its parameters. Channels of B and C
/// turn in pairs of neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[tokens, heads, head_dim]`.
    pub x: &'a Tensor,
    /// What x is multiplied by for each rank, `[heads, rank, head_dim]`; absent for one rank of x
    /// itself.
    pub up: Option<&'a Tensor>,
    /// Normed B `[tokens, rank, groups, state]`, of the kind of x.
    pub b: &'a Tensor,
    /// Normed C, like `b`.
    pub c: &'a Tensor,
    /// `[heads, rank, state]`.
    pub b_bias: &'a Tensor,
    /// `[heads, rank, state]`.
    pub c_bias: &'a Tensor,
    /// `θ`: `[tokens, angles]`, or for each head `[tokens, heads, angles]`.
    pub theta: &'a Tensor,
    /// `Δ`: `[tokens, heads]`.
    pub delta: &'a Tensor,
    /// `a = Δ A ≤ 0`, like `delta`; its kind (fp32 or fp64) is that of the plain form.
    pub log_decay: &'a Tensor,
    /// `λ` in (0, 1), like `delta`; not read where `weights` are given.
    pub trap: &'a Tensor,
    /// `γ` and a token's weight in later states, for the layout that is run.
    pub weights: Option<&'a [Tensor; 2]>,
    /// `D`: `[heads]`.
    pub skip: &'a Tensor,
}

/// What a mixer's projection holds of the gates of each packed token.
#[derive(Debug, Clone, Copy)]
pub struct RawGates<'a> {
    /// `Δ`, `A` and `λ` by head, then `θ`: `[tokens, 3 heads + angles]`.
    pub values: &'a Tensor,
    /// Added to `Δ`: `[heads]`.
    pub dt_bias: &'a Tensor,
    /// Whether `A` grows as `1 + r` and falls as `1 / (1 - r)`; else it is a softplus.
    pub heavy_tail: bool,
    /// The least `A`.
    pub floor: f64,
}

/// The gates as [`Inputs`] takes them.
#[derive(Debug)]
pub struct Gates {
    /// `π tanh θ`.
    pub theta: Tensor,
    /// `softplus(Δ + dt_bias)`.
    pub delta: Tensor,
    /// `-Δ A`.
    pub log_decay: Tensor,
    /// `λ`, or what takes its place beside `weights`.
    pub trap: Tensor,
    /// Of a kernel alone.
    pub weights: Option<[Tensor; 2]>,
}

impl RawGates<'_> {
    /// The gates in fp32, or fp64 from fp64. For a layout one kernel each way makes them, in bf16
    /// on CUDA.
    pub fn run(&self, layout: Option<&Layout>) -> Gates {
        if let Some(layout) =
            layout.filter(|_| device::joinable(self.values) && self.values.kind() == Kind::BFloat16)
        {
            let inputs = [self.values, self.dt_bias, layout.positions()].map(Some);
            let numbers = [i64::from(self.heavy_tail), self.floor.to_bits() as i64];
            let [theta, delta, log_decay, gamma, weight] =
                device::call(device::cistron_mamba3_gates, &inputs, &numbers);
            return Gates {
                theta,
                delta,
                log_decay,
                trap: gamma.shallow_clone(),
                weights: Some([gamma, weight]),
            };
        }
        let kind = match self.values.kind() {
            Kind::Double => Kind::Double,
            _ => Kind::Float,
        };
        let heads = self.dt_bias.size()[0];
        let angles = self.values.size()[1] - 3 * heads;
        let values = self.values.to_kind(kind);
        let mut parts = values.split_with_sizes([heads, heads, heads, angles].as_slice(), 1);
        let theta = parts.remove(3).tanh() * PI;
        let delta = (&parts[0] + self.dt_bias).softplus();
        let rate = &parts[1];
        let rate = if self.heavy_tail {
            let below: Tensor = 1.0 / (1.0 - rate.clamp_max(0.0));
            (rate + 1.0).where_self(&rate.ge(0.0), &below)
        } else {
            rate.softplus()
        };
        Gates {
            theta,
            log_decay: -(&delta * rate.clamp_min(self.floor)),
            delta,
            trap: parts[2].sigmoid(),
            weights: None,
        }
    }
}

/// Halves of the channels `[…, n]`, (i, i + n / 2), as pairs of neighbours (2 i, 2 i + 1).
pub fn pairs_of_halves(x: &Tensor) -> Tensor {
    let channels = x.size().last().copied().unwrap_or(0);
    regroup(x, [2, channels / 2])
}

/// The inverse of [`pairs_of_halves`].
pub fn halves_of_pairs(x: &Tensor) -> Tensor {
    let channels = x.size().last().copied().unwrap_or(0);
    regroup(x, [channels / 2, 2])
}

fn regroup(x: &Tensor, parts: [i64; 2]) -> Tensor {
    let mut shape = x.size();
    shape.pop();
    shape.extend(parts);
    x.reshape(shape).transpose(-1, -2).flatten(-2, -1)
}

/// `γ`, and each token's weight in later states, which has a part of the next one's `Δ`.
pub fn weights(delta: &Tensor, trap: &Tensor, layout: &Layout) -> [Tensor; 2] {
    let gamma = trap * delta;
    let started = layout.positions().ne(0).unsqueeze(-1);
    let ahead = ((delta - &gamma) * started)
        .narrow(0, 1, layout.total() - 1)
        .constant_pad_nd([0, 0, 0, 1]);
    let weight = &gamma + ahead;
    [gamma, weight]
}

/// Whether a kernel takes the scan of such `x` `[tokens, heads, rank, head_dim]`.
pub fn has_kernel(x: &Tensor, state: i64, angles: i64) -> bool {
    ssm::supported(x, state, Some(angles))
}

impl Inputs<'_> {
    fn ranks(&self, x: &Tensor) -> Tensor {
        let x = x.unsqueeze(-2);
        match self.up {
            Some(up) => &x * up.to_kind(x.kind()),
            None => x,
        }
    }

    fn kind(&self) -> Kind {
        self.log_decay.kind()
    }

    /// The memory of sequences that have had no token.
    fn nothing(&self, sequences: i64) -> Memory {
        let options = (self.kind(), self.x.device());
        let [_, rank, _, states] = self.b.size()[..] else {
            panic!("b is [tokens, rank, groups, state]");
        };
        let (heads, head_dim) = (self.x.size()[1], self.x.size()[2]);
        let angles = self.theta.size().last().copied().unwrap_or(0);
        Memory {
            angle: Tensor::zeros([sequences, heads, angles], options),
            ssm: Tensor::zeros([sequences, heads, head_dim, states], options),
            k: Tensor::zeros([sequences, rank, heads, states], options),
            v: Tensor::zeros([sequences, heads, head_dim], options),
        }
    }

    /// Runs every sequence from `initial` (nothing when absent): `y`
    /// `[tokens, heads, rank, head_dim]` and, when asked to `keep` it, the memory after it.
    ///
    /// A kernel runs where [`has_kernel`] holds and `θ` is shared by the heads; `y` has the kind
    /// of x then, and else that of `log_decay`. Gradients reach every input and the initial
    /// memory, also through the memory returned.
    pub fn run(
        &self,
        layout: &Layout,
        initial: Option<&Memory>,
        keep: bool,
    ) -> (Tensor, Option<Memory>) {
        let kind = self.kind();
        let x = self.ranks(self.x);
        let initial = initial.map(|memory| memory.map(|t| t.to_kind(kind)));
        if layout.total() == 0 {
            let memory = initial.unwrap_or_else(|| self.nothing(layout.sequences()));
            return (x, keep.then_some(memory));
        }
        let made;
        let [gamma, weight] = match self.weights {
            Some(weights) => weights,
            None => {
                made = weights(self.delta, self.trap, layout);
                &made
            }
        };
        let start = initial
            .as_ref()
            .map(|memory| self.start(memory, gamma, layout));
        let states = self.b.size()[3];
        let angles = self.theta.size().last().copied().unwrap_or(0);
        let (y, last) = if self.theta.dim() == 2 && has_kernel(&x, states, angles) {
            let scan = ssm::Scan {
                x: &x,
                b: self.b,
                c: self.c,
                turn: Some(ssm::Turn {
                    b_bias: self.b_bias,
                    c_bias: self.c_bias,
                    theta: self.theta,
                    delta: self.delta,
                }),
                log_decay: self.log_decay,
                weight,
                gamma,
                skip: Some(self.skip),
                initial: start.as_ref(),
            };
            scan.run(layout, keep)
        } else {
            let pad = |t: &Tensor| layout.pad(&t.to_kind(kind));
            let scan = Scan {
                x: &pad(&x),
                b: &pad(self.b),
                c: &pad(self.c),
                b_bias: self.b_bias,
                c_bias: self.c_bias,
                theta: &pad(self.theta),
                delta: &pad(self.delta),
                log_decay: &pad(self.log_decay),
                weight: &pad(weight),
                gamma: &pad(gamma),
            };
            let (y, last) = scan.run(start.as_ref());
            let skipped = &x * self.skip.reshape([-1, 1, 1]);
            (layout.unpad(&y) + skipped, Some(last))
        };
        let memory = last
            .filter(|_| keep)
            .map(|last| self.end(&last, initial.as_ref(), layout));
        (y, memory)
    }

    /// The scans from no memory as matrices: one sequence, `[heads * rank * rank, tokens, tokens]`,
    /// without the skip.
    pub fn matrix(&self) -> Tensor {
        let kind = self.kind();
        let one = |t: &Tensor| t.to_kind(kind).unsqueeze(0);
        let layout = Layout::new(&[self.x.size()[0]], self.x.device());
        let [gamma, weight] = weights(self.delta, self.trap, &layout);
        let scan = Scan {
            x: &one(&self.ranks(self.x)),
            b: &one(self.b),
            c: &one(self.c),
            b_bias: self.b_bias,
            c_bias: self.c_bias,
            theta: &one(self.theta),
            delta: &one(self.delta),
            log_decay: &one(self.log_decay),
            weight: &one(&weight),
            gamma: &one(&gamma),
        };
        scan.matrix().squeeze_dim(0)
    }

    /// What the first tokens find: the state with the last input's late part, at the angle zero.
    fn start(&self, memory: &Memory, gamma: &Tensor, layout: &Layout) -> Tensor {
        let rows = layout.lengths().len();
        let firsts: Vec<i64> = layout.offsets()[..rows]
            .iter()
            .map(|&start| start.min(layout.total() - 1))
            .collect();
        let firsts = upload(&firsts, gamma.device());
        let late = self.delta.index_select(0, &firsts) - gamma.index_select(0, &firsts);
        let input = self.ranks(&memory.v).transpose(-1, -2);
        let held = input.matmul(&memory.k.transpose(1, 2)) * late.unsqueeze(-1).unsqueeze(-1);
        turn(&(held + &memory.ssm), &-memory.angle.unsqueeze(2))
    }

    /// The memory after every sequence; `last` is the scan's state.
    fn end(&self, last: &Tensor, initial: Option<&Memory>, layout: &Layout) -> Memory {
        let (kind, heads) = (self.kind(), self.x.size()[1]);
        let before = match initial {
            Some(initial) => initial.map(Tensor::shallow_clone),
            None => self.nothing(layout.sequences()),
        };
        // In fp64: the sum of many angles is taken into [0, 2π).
        let double = |t: &Tensor| layout.pad(&t.to_kind(Kind::Double));
        let whole = if self.theta.dim() == 2 {
            double(self.delta)
                .transpose(1, 2)
                .matmul(&double(self.theta))
        } else {
            let turns = self.delta.to_kind(Kind::Double).unsqueeze(-1) * self.theta;
            double(&turns).sum_dim_intlist([1i64].as_slice(), false, Kind::Double)
        };
        let angle = (&before.angle + whole).remainder(TAU).to_kind(kind);
        let ends: Vec<i64> = layout.offsets()[1..]
            .iter()
            .map(|&end| (end - 1).max(0))
            .collect();
        let ends = upload(&ends, last.device());
        let groups = self.b.size()[2];
        let b = self
            .b
            .index_select(0, &ends)
            .to_kind(kind)
            .repeat_interleave_self_int(heads / groups, 2, None)
            + self.b_bias.transpose(0, 1);
        let after = Memory {
            ssm: turn(&last.to_kind(kind), &angle.unsqueeze(2)),
            k: turn(&b, &angle.unsqueeze(1)),
            v: self.x.index_select(0, &ends).to_kind(kind),
            angle,
        };
        if layout.lengths().iter().all(|&length| length > 0) {
            return after;
        }
        let some: Vec<i64> = layout.lengths().iter().map(|&n| i64::from(n > 0)).collect();
        after.or(&before, &upload(&some, last.device()).ne(0))
    }
}

impl Memory {
    /// The rows of this memory where `mask` `[sequences]` says so, else those of `other`.
    fn or(&self, other: &Self, mask: &Tensor) -> Self {
        let pick = |a: &Tensor, b: &Tensor| {
            let mut shape = vec![1; a.dim()];
            shape[0] = -1;
            a.where_self(&mask.reshape(shape), b)
        };
        Self {
            angle: pick(&self.angle, &other.angle),
            ssm: pick(&self.ssm, &other.ssm),
            k: pick(&self.k, &other.k),
            v: pick(&self.v, &other.v),
        }
    }

    /// The memory of nothing in fp32: `heads`, `head_dim`, `state`, `rank` and `angles` in `sizes`.
    pub fn empty(sequences: i64, sizes: [i64; 5], device: Device) -> Self {
        let [heads, head_dim, state, rank, angles] = sizes;
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, device));
        Self {
            angle: zeros(&[sequences, heads, angles]),
            ssm: zeros(&[sequences, heads, head_dim, state]),
            k: zeros(&[sequences, rank, heads, state]),
            v: zeros(&[sequences, heads, head_dim]),
        }
    }
}
