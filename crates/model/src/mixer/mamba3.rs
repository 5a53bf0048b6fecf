//! The Mamba-3 block (arXiv 2603.15569), SISO and MIMO: in-projection, norms of B and C, the
//! exponential-trapezoidal scan with data-dependent rotation, gate, out-projection.

pub mod exchange;
pub mod parity;

use cistron_kernels::mamba3::{
    Gates, Inputs, Memory, RawGates, halves_of_pairs, has_kernel, pairs_of_halves,
};
use cistron_kernels::norm::rms_norm;
use cistron_kernels::swiglu::gated_linear;
use cistron_kernels::{Layout, Packed, linear, step};
use tch::{Device, Kind, Tensor};

use super::fallback;
use crate::config::mamba3::{DecayActivation, Mamba3Shape};
use crate::state::{LayerState, Rows};

/// A Mamba-3 mixer; parameter names are the reference module's.
#[derive(Debug)]
pub struct Mamba3 {
    shape: Mamba3Shape,
    in_proj: Tensor,
    dt_bias: Tensor,
    b_norm: Tensor,
    c_norm: Tensor,
    b_bias: Tensor,
    c_bias: Tensor,
    d: Tensor,
    /// Factors of x, gate and output for each rank.
    mimo: Option<[Tensor; 3]>,
    norm: Option<Tensor>,
    out_proj: Tensor,
}

/// What the in-projection holds for each token. Channels of B and C, and of their biases, are in
/// pairs of neighbours.
struct Projected {
    z: Tensor,
    x: Tensor,
    b: Tensor,
    c: Tensor,
    b_bias: Tensor,
    c_bias: Tensor,
    gates: Gates,
}

/// The precision of gates and of the plain form: fp64 stays, all else is fp32.
fn exact(kind: Kind) -> Kind {
    match kind {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    }
}

impl Mamba3 {
    /// A mixer of `shape` around the parameters that `get` gives by name.
    pub fn new(shape: Mamba3Shape, get: impl Fn(&str) -> Tensor) -> Self {
        Self {
            in_proj: get("in_proj.weight"),
            dt_bias: get("dt_bias"),
            b_norm: get("B_norm.weight"),
            c_norm: get("C_norm.weight"),
            b_bias: get("B_bias"),
            c_bias: get("C_bias"),
            d: get("D"),
            mimo: shape.mimo.then(|| ["mimo_x", "mimo_z", "mimo_o"].map(&get)),
            norm: shape.norm.then(|| get("norm.weight")),
            out_proj: get("out_proj.weight"),
            shape,
        }
    }

    /// Its sizes and details.
    pub fn shape(&self) -> &Mamba3Shape {
        &self.shape
    }

    /// The parts of the in-projection `[tokens, …]`: z, x, B, C, and Δ, A, λ and θ as one.
    fn split(&self, u: &Tensor) -> Vec<Tensor> {
        let [z, x, b, c, gates @ ..] = self.shape.widths();
        let mut widths = vec![z, x, b, c, gates.iter().sum()];
        // Rows of a product start at multiples of 16 bytes, or matrix units fall back to
        // narrow loads and kernels to copies.
        let spare = (8 - widths.iter().sum::<i64>() % 8) % 8;
        let projected = if u.device().is_cuda() && u.kind() == Kind::BFloat16 && spare > 0 {
            widths.push(spare);
            let weight = self.in_proj.to_kind(u.kind());
            linear(u, &weight.constant_pad_nd([0, 0, 0, spare]))
        } else {
            linear(u, &self.in_proj)
        };
        projected.split_with_sizes(widths.as_slice(), -1)
    }

    /// Channels in pairs of neighbours, whatever the layout of the parameters.
    fn paired(&self, x: &Tensor) -> Tensor {
        if self.shape.halves {
            pairs_of_halves(x)
        } else {
            x.shallow_clone()
        }
    }

    fn project(&self, u: &Tensor, layout: Option<&Layout>) -> Projected {
        let shape = &self.shape;
        let mut parts = self.split(u);
        parts.truncate(5);
        let [z, x, b, c, gates]: [Tensor; 5] =
            parts.try_into().expect("five widths make five parts");
        let exact = exact(u.kind());
        let x = x.reshape([-1, shape.heads, shape.head_dim]);
        let ranks = x.unsqueeze(2).expand([-1, -1, shape.rank, -1], false);
        // The kernels take what the projection gave, the plain form computes in fp32 or fp64.
        let kind = if has_kernel(&ranks, shape.states, shape.angles) {
            u.kind()
        } else {
            let size = [shape.head_dim, shape.states, shape.rank];
            fallback::warn("Mamba-3", u.device(), u.kind(), size);
            exact
        };
        let project = |t: &Tensor, norm: &Tensor| {
            let t = t.reshape([-1, shape.rank, shape.groups, shape.states]);
            self.paired(&rms_norm(&t.to_kind(kind), norm))
        };
        let gates = RawGates {
            values: &gates,
            dt_bias: &self.dt_bias,
            heavy_tail: shape.activation == DecayActivation::HeavyTail,
            floor: shape.floor,
        };
        Projected {
            b: project(&b, &self.b_norm),
            c: project(&c, &self.c_norm),
            b_bias: self.paired(&self.b_bias),
            c_bias: self.paired(&self.c_bias),
            gates: gates.run(layout.filter(|_| kind == u.kind())),
            x: x.to_kind(kind),
            z,
        }
    }

    fn inputs<'a>(&'a self, projected: &'a Projected) -> Inputs<'a> {
        Inputs {
            x: &projected.x,
            up: self.mimo.as_ref().map(|[up, _, _]| up),
            b: &projected.b,
            c: &projected.c,
            b_bias: &projected.b_bias,
            c_bias: &projected.c_bias,
            theta: &projected.gates.theta,
            delta: &projected.gates.delta,
            log_decay: &projected.gates.log_decay,
            trap: &projected.gates.trap,
            weights: projected.gates.weights.as_ref(),
            skip: &self.d,
        }
    }

    /// Norm, gate, sum over ranks and out-projection of `y` `[tokens, heads, rank, head_dim]`.
    fn finish(&self, y: &Tensor, z: &Tensor) -> Tensor {
        let shape = &self.shape;
        if self.mimo.is_none() && self.norm.is_none() && y.kind() == z.kind() {
            let y = y.reshape([-1, shape.inner()]);
            return gated_linear(&y, &z.reshape([-1, shape.inner()]), &self.out_proj);
        }
        let mut gate = z
            .to_kind(y.kind())
            .reshape([-1, shape.heads, 1, shape.head_dim]);
        if let Some([_, by, _]) = &self.mimo {
            gate = by.to_kind(y.kind()) * gate;
        }
        let mut y = match &self.norm {
            Some(weight) => {
                let one = Tensor::ones([shape.head_dim], (Kind::Float, y.device()));
                let weight = weight.reshape([shape.heads, 1, shape.head_dim]);
                rms_norm(y, &one) * weight.to_kind(y.kind())
            }
            None => y.shallow_clone(),
        };
        y = gate.silu() * y;
        if let Some([_, _, down]) = &self.mimo {
            y = (y * down.to_kind(gate.kind())).sum_dim_intlist([2i64].as_slice(), false, None);
        }
        let y = y.reshape([-1, shape.inner()]).to_kind(z.kind());
        linear(&y, &self.out_proj)
    }

    /// A memory with its channels as `change` puts them.
    fn regrouped(&self, memory: &Memory, change: fn(&Tensor) -> Tensor) -> Memory {
        let mut memory = memory.map(Tensor::shallow_clone);
        if self.shape.halves {
            memory.ssm = change(&memory.ssm);
            memory.k = change(&memory.k);
        }
        memory
    }

    pub(crate) fn forward(
        &self,
        u: &Packed,
        initial: Option<&Memory>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        let (y, memory) = self.run(&u.values, &u.layout, initial, keep);
        (y, memory.map(LayerState::Mamba3))
    }

    /// `[tokens, width]` to the same, from `initial`, and the memory after every sequence when
    /// asked to `keep` it. Gradients reach the initial memory, also through the one returned.
    pub fn run(
        &self,
        u: &Tensor,
        layout: &Layout,
        initial: Option<&Memory>,
        keep: bool,
    ) -> (Tensor, Option<Memory>) {
        let projected = self.project(u, Some(layout));
        let initial = initial.map(|memory| self.regrouped(memory, pairs_of_halves));
        let (y, memory) = self.inputs(&projected).run(layout, initial.as_ref(), keep);
        let memory = memory.map(|memory| self.regrouped(&memory, halves_of_pairs));
        (self.finish(&y, &projected.z), memory)
    }

    fn weights(&self) -> step::Mamba3<'_> {
        let shape = &self.shape;
        step::Mamba3 {
            dt_bias: &self.dt_bias,
            b_norm: &self.b_norm,
            c_norm: &self.c_norm,
            b_bias: &self.b_bias,
            c_bias: &self.c_bias,
            d: &self.d,
            mimo: self.mimo.as_ref().map(|[up, gate, down]| [up, gate, down]),
            norm: self.norm.as_ref(),
            head_dim: shape.head_dim,
            states: shape.states,
            groups: shape.groups,
            rank: shape.rank,
            angles: shape.angles,
            halves: shape.halves,
            heavy_tail: shape.activation == DecayActivation::HeavyTail,
            floor: shape.floor,
        }
    }

    /// One token of every row, in place: `[rows, width]` to the same.
    fn advance(&self, u: &Tensor, memory: &mut Memory, rows: step::Rows<'_>) -> Tensor {
        let state = step::Mamba3State {
            angle: &mut memory.angle,
            ssm: &mut memory.ssm,
            k: &mut memory.k,
            v: &mut memory.v,
        };
        let y = step::mamba3(&linear(u, &self.in_proj), &self.weights(), state, rows);
        linear(&y, &self.out_proj)
    }

    pub(crate) fn step(&self, u: &Tensor, rows: &Rows, state: &mut Memory) -> Tensor {
        // A copy: other states may share the tensors.
        let mut memory = state.map(|t| rows.take(t).contiguous().copy());
        let y = self.advance(u, &mut memory, step::Rows::default());
        rows.put(&mut state.angle, memory.angle);
        rows.put(&mut state.ssm, memory.ssm);
        rows.put(&mut state.k, memory.k);
        rows.put(&mut state.v, memory.v);
        y
    }

    pub(crate) fn decode(&self, u: &Tensor, cache: &mut Memory, mask: &Tensor) -> Tensor {
        let rows = step::Rows {
            mask: Some(mask),
            ..step::Rows::default()
        };
        self.advance(u, cache, rows)
    }

    /// The memory of sequences that have had no token.
    pub fn empty_memory(&self, sequences: i64, device: Device) -> Memory {
        let shape = &self.shape;
        let sizes = [
            shape.heads,
            shape.head_dim,
            shape.states,
            shape.rank,
            shape.angles,
        ];
        Memory::empty(sequences, sizes, device)
    }

    pub(crate) fn empty_state(&self, sequences: i64, device: Device) -> LayerState {
        LayerState::Mamba3(self.empty_memory(sequences, device))
    }

    /// `[heads * rank², length, length]`: what the scan does to x, without the skip; one matrix
    /// for each head, rank of the output and rank of the input.
    pub fn matrix(&self, u: &Tensor) -> Tensor {
        self.inputs(&self.project(u, None)).matrix()
    }

    /// Output `[length, width]` from the matrix.
    pub fn apply_matrix(&self, matrix: &Tensor, u: &Tensor) -> Tensor {
        let projected = self.project(u, None);
        let (rank, length) = (self.shape.rank, u.size()[0]);
        let x = projected.x.to_kind(matrix.kind()).unsqueeze(2);
        let x = match &self.mimo {
            Some([up, _, _]) => x * up,
            None => x,
        };
        // [heads, rank out, length, (rank in, length)] times [heads, 1, (rank in, length), head_dim]
        let matrix = matrix
            .reshape([-1, rank, rank, length, length])
            .transpose(2, 3)
            .reshape([-1, rank, length, rank * length]);
        let rows = x
            .permute([1, 2, 0, 3])
            .reshape([-1, 1, rank * length, self.shape.head_dim]);
        let y = matrix.matmul(&rows).permute([2, 0, 1, 3]);
        self.finish(&(y + &x * self.d.reshape([-1, 1, 1])), &projected.z)
    }
}
