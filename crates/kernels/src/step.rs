//! One token of every row, with states changed in place: what generation runs.
//!
//! On CUDA one or two kernels do what lies between the two projections of a mixer; elsewhere, and
//! for what the kernels do not take, plain operators do. A device mask says which rows take the
//! step: the others keep their states, and what they return is zero. The host is never asked.

use tch::{Kind, Tensor};

use crate::dechunk::{self, Ceiling};
use crate::{attention, chunk, device, rotary};

/// Added to mean squares before the root.
const EPS: f64 = crate::norm::EPS;

/// Which rows of the states a step touches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows<'a> {
    /// Row of the states of each row of the activations, i64 `[rows]`, none twice; by default the same.
    pub index: Option<&'a Tensor>,
    /// Whether each row takes the step, bool `[rows]`; by default all do.
    pub mask: Option<&'a Tensor>,
}

impl Rows<'_> {
    fn take(&self, state: &Tensor) -> Tensor {
        self.index
            .map_or_else(|| state.shallow_clone(), |i| state.index_select(0, i))
    }

    fn put(&self, state: &mut Tensor, values: &Tensor) {
        let mut values = values.to_kind(state.kind());
        if let Some(mask) = self.mask {
            values = values.where_self(&beside(mask, &values), &self.take(state));
        }
        match self.index {
            Some(index) => {
                let _ = state.index_copy_(0, index, &values);
            }
            None => state.copy_(&values),
        }
    }

    /// Zeros in the rows that are off.
    fn blank(&self, y: Tensor) -> Tensor {
        match self.mask {
            Some(mask) => y.masked_fill(&beside(mask, &y).logical_not(), 0.0),
            None => y,
        }
    }
}

/// `mask` `[rows]` in a shape that broadcasts over `[rows, …]`.
fn beside(mask: &Tensor, values: &Tensor) -> Tensor {
    let mut shape = vec![1; values.dim()];
    shape[0] = -1;
    mask.reshape(shape)
}

/// Whether the kernels take such activations and states.
fn takes(activations: &Tensor, states: &[&Tensor]) -> bool {
    device::usable(activations) && states.iter().all(|state| state.kind() == Kind::Float)
}

/// What a chunking stage compares: vectors `[rows, width]`.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// q of each row's last vector.
    pub q: &'a Tensor,
    /// k of this one.
    pub k: &'a Tensor,
    /// This vector.
    pub now: &'a Tensor,
    /// Whether each row takes the step, bool `[rows]`.
    pub mask: &'a Tensor,
}

/// The probability that each row starts a chunk, and whether it does: `[rows]` each. A row that
/// has `seen` nothing (i64 `[rows]`) does. Rows that run count this vector and keep it as their
/// `last` `[rows, width]`.
pub fn route(route: Route<'_>, last: &mut Tensor, seen: &mut Tensor) -> [Tensor; 2] {
    if takes(route.q, &[route.q, route.k, route.now, last]) {
        let Route { q, k, now, mask } = route;
        let tensors = [q, k, now, mask, &*last, &*seen].map(Some);
        return device::call(device::cistron_route_step, &tensors, &[]);
    }
    route_plain(route, last, seen)
}

/// [`route`] in plain operators.
pub fn route_plain(route: Route<'_>, last: &mut Tensor, seen: &mut Tensor) -> [Tensor; 2] {
    let prob = chunk::dissimilarity(route.q, route.k).masked_fill(&Tensor::eq(seen, 0), 1.0);
    let starting = pass(&prob, route.now, route.mask, last, seen);
    [prob, starting]
}

/// Rows of `mask` count `now` and keep it as their `last`; those of them that start a chunk.
pub fn pass(
    prob: &Tensor,
    now: &Tensor,
    mask: &Tensor,
    last: &mut Tensor,
    seen: &mut Tensor,
) -> Tensor {
    let rows = Rows {
        mask: Some(mask),
        ..Rows::default()
    };
    rows.put(last, now);
    let _ = seen.g_add_(mask);
    prob.gt(0.5).logical_and(mask)
}

/// What comes back from the inner stages of a chunking stage.
#[derive(Debug, Clone, Copy)]
pub struct Dechunk<'a> {
    /// What the inner stages made, `[rows, width]`.
    pub z: &'a Tensor,
    /// Probability that a chunk starts, fp32 `[rows]`.
    pub prob: &'a Tensor,
    /// Whether one does, bool `[rows]`.
    pub starting: &'a Tensor,
    /// What goes past the inner stages, `[rows, width]`.
    pub residual: &'a Tensor,
    /// Greatest weight of a new chunk.
    pub ceiling: Ceiling,
}

/// Moves the running `average` `[rows, width]` of the rows that start a chunk on to theirs, and
/// returns it with the residual added.
pub fn dechunk(back: Dechunk<'_>, average: &mut Tensor) -> Tensor {
    if takes(back.z, &[back.prob, back.residual, average]) {
        let tensors = [back.z, back.prob, back.starting, &*average, back.residual].map(Some);
        let numbers = [dechunk::FLOOR, back.ceiling.value()].map(|x| x.to_bits() as i64);
        let [y] = device::call(device::cistron_dechunk_step, &tensors, &numbers);
        return y;
    }
    dechunk_plain(back, average)
}

/// [`dechunk()`] in plain operators.
pub fn dechunk_plain(back: Dechunk<'_>, average: &mut Tensor) -> Tensor {
    let p = dechunk::smoothing(back.prob, back.ceiling).unsqueeze(-1);
    let keep: Tensor = 1.0 - &p;
    let rows = Rows {
        mask: Some(back.starting),
        ..Rows::default()
    };
    rows.put(average, &(back.z * &p + &*average * keep));
    &*average + back.residual
}

/// Weights and sizes of a Mamba-2 mixer between its projections.
#[derive(Debug, Clone, Copy)]
pub struct Mamba2<'a> {
    /// `[channels, 1, width]`, channels being those of x, B and C.
    pub conv_weight: &'a Tensor,
    /// `[channels]`.
    pub conv_bias: &'a Tensor,
    /// `[heads]`.
    pub dt_bias: &'a Tensor,
    /// `[heads]`.
    pub a_log: &'a Tensor,
    /// `[heads]`.
    pub d: &'a Tensor,
    /// Channels a head.
    pub head_dim: i64,
    /// State size of each channel.
    pub states: i64,
    /// Groups of B and C.
    pub groups: i64,
}

impl Mamba2<'_> {
    fn heads(&self) -> i64 {
        self.d.size()[0]
    }
}

/// Convolution, scan and skip of one token: `[rows, inner]`, before the gate.
///
/// - `projected` `[rows, …]`: `[z | x | B | C | Δ]`, fp32 or bf16; the kind of what is returned
/// - `tail` `[*, width - 1, channels]` and `ssm` `[*, heads, head_dim, states]`, contiguous, fp32
///   on CUDA: changed in place
pub fn mamba2(
    projected: &Tensor,
    weights: &Mamba2<'_>,
    tail: &mut Tensor,
    ssm: &mut Tensor,
    rows: Rows<'_>,
) -> Tensor {
    if takes(projected, &[tail, ssm]) {
        let tensors = [
            rows.index,
            rows.mask,
            Some(projected),
            Some(&*tail),
            Some(&*ssm),
            Some(weights.conv_weight),
            Some(weights.conv_bias),
            Some(weights.dt_bias),
            Some(weights.a_log),
            Some(weights.d),
        ];
        let numbers = [weights.head_dim, weights.states, weights.groups];
        let [y] = device::call(device::cistron_mamba2_step, &tensors, &numbers);
        return y;
    }
    mamba2_plain(projected, weights, tail, ssm, rows)
}

/// [`mamba2`] in plain operators, at the precision of `ssm`.
pub fn mamba2_plain(
    projected: &Tensor,
    weights: &Mamba2<'_>,
    tail: &mut Tensor,
    ssm: &mut Tensor,
    rows: Rows<'_>,
) -> Tensor {
    let kind = ssm.kind();
    let of = |t: &Tensor| t.to_kind(kind);
    let (heads, groups, states) = (weights.heads(), weights.groups, weights.states);
    let inner = heads * weights.head_dim;
    let channels = inner + 2 * groups * states;
    let width = weights.conv_weight.size()[2];
    let input = of(projected);

    let now = input.narrow(1, inner, channels).unsqueeze(1);
    let window = Tensor::cat(&[of(&rows.take(tail)), now], 1);
    let taps = of(weights.conv_weight).squeeze_dim(1).transpose(0, 1);
    let mixed = ((&window * taps).sum_dim_intlist([1i64].as_slice(), false, kind)
        + of(weights.conv_bias))
    .silu();
    rows.put(tail, &window.narrow(1, 1, width - 1));

    let delta = (input.narrow(1, inner + channels, heads) + of(weights.dt_bias)).softplus();
    let keep = (-(&delta * of(weights.a_log).exp())).exp();
    let x = mixed
        .narrow(1, 0, inner)
        .reshape([-1, heads, weights.head_dim]);
    let shared = |start: i64| {
        mixed
            .narrow(1, start, groups * states)
            .reshape([-1, groups, states])
            .repeat_interleave_self_int(heads / groups, 1, None)
            .unsqueeze(2)
    };
    let added = (&x * delta.unsqueeze(-1)).unsqueeze(-1) * shared(inner);
    let next = rows.take(ssm) * keep.unsqueeze(-1).unsqueeze(-1) + added;
    let y =
        (&next * shared(inner + groups * states)).sum_dim_intlist([-1i64].as_slice(), false, kind);
    rows.put(ssm, &next);
    let y = (y + &x * of(weights.d).unsqueeze(-1)).reshape([-1, inner]);
    rows.blank(y.to_kind(projected.kind()))
}

/// Weights and sizes of a Mamba-3 mixer between its projections.
#[derive(Debug, Clone, Copy)]
pub struct Mamba3<'a> {
    /// `[heads]`.
    pub dt_bias: &'a Tensor,
    /// `[states]`, of the norm of B.
    pub b_norm: &'a Tensor,
    /// `[states]`, of the norm of C.
    pub c_norm: &'a Tensor,
    /// `[heads, rank, states]`, added to B.
    pub b_bias: &'a Tensor,
    /// `[heads, rank, states]`, added to C.
    pub c_bias: &'a Tensor,
    /// `[heads]`.
    pub d: &'a Tensor,
    /// What multiplies x, z and y for each rank, `[heads, rank, head_dim]` each; none for rank 1.
    pub mimo: Option<[&'a Tensor; 3]>,
    /// `[inner]`: the weight of a norm of each head before the gate.
    pub norm: Option<&'a Tensor>,
    /// Channels a head.
    pub head_dim: i64,
    /// State size of each channel.
    pub states: i64,
    /// Groups of B and C.
    pub groups: i64,
    /// Inputs of a head at each token.
    pub rank: i64,
    /// Channel pairs that rotate.
    pub angles: i64,
    /// Channel i is paired with i + states / 2; else 2 i with 2 i + 1.
    pub halves: bool,
    /// The decay rate is `1 + u` (u ≥ 0), `1 / (1 - u)` (u < 0); else `softplus(u)`.
    pub heavy_tail: bool,
    /// Least decay rate.
    pub floor: f64,
}

impl Mamba3<'_> {
    fn heads(&self) -> i64 {
        self.d.size()[0]
    }

    /// `x` `[…, states]` turned by the angles `[…, angles]`.
    fn rotate(&self, x: &Tensor, angle: &Tensor) -> Tensor {
        let (half, turning) = (self.states / 2, self.angles);
        let (first, second) = if self.halves {
            (x.narrow(-1, 0, half), x.narrow(-1, half, half))
        } else {
            (x.slice(-1, 0, None, 2), x.slice(-1, 1, None, 2))
        };
        let still = |t: &Tensor| t.narrow(-1, turning, half - turning);
        let (a, b) = (first.narrow(-1, 0, turning), second.narrow(-1, 0, turning));
        let (cos, sin) = (angle.cos(), angle.sin());
        let left = Tensor::cat(&[&a * &cos - &b * &sin, still(&first)], -1);
        let right = Tensor::cat(&[&a * &sin + &b * &cos, still(&second)], -1);
        if self.halves {
            Tensor::cat(&[left, right], -1)
        } else {
            Tensor::stack(&[left, right], -1).flatten(-2, -1)
        }
    }
}

/// Memory of a Mamba-3 mixer, contiguous; fp32 on CUDA.
#[derive(Debug)]
pub struct Mamba3State<'a> {
    /// `[*, heads, angles]`, in [0, 2π).
    pub angle: &'a mut Tensor,
    /// `[*, heads, head_dim, states]`.
    pub ssm: &'a mut Tensor,
    /// The last B, normed, biased and rotated: `[*, rank, heads, states]`.
    pub k: &'a mut Tensor,
    /// The last x: `[*, heads, head_dim]`.
    pub v: &'a mut Tensor,
}

/// Rotation, scan, skip and gate of one token: `[rows, inner]`, ready for the out-projection.
///
/// `projected` `[rows, …]`: `[z | x | B | C | Δ | A | λ | θ]` with B and C as `[rank, groups,
/// states]`, fp32 or bf16; the kind of what is returned. The state is changed in place.
pub fn mamba3(
    projected: &Tensor,
    weights: &Mamba3<'_>,
    state: Mamba3State<'_>,
    rows: Rows<'_>,
) -> Tensor {
    // Three vectors of rank × states and small change in shared memory.
    let fits = 3 * weights.rank * weights.states
        + (weights.rank + 2) * weights.head_dim
        + 2 * weights.angles
        <= 12_000;
    let Mamba3State { angle, ssm, k, v } = &state;
    if fits && takes(projected, &[angle, ssm, k, v]) {
        let mimo = |i: usize| weights.mimo.map(|mimo| mimo[i]);
        let tensors = [
            rows.index,
            rows.mask,
            Some(projected),
            Some(&**angle),
            Some(&**ssm),
            Some(&**k),
            Some(&**v),
            Some(weights.dt_bias),
            Some(weights.b_norm),
            Some(weights.c_norm),
            Some(weights.b_bias),
            Some(weights.c_bias),
            Some(weights.d),
            mimo(0),
            mimo(1),
            mimo(2),
            weights.norm,
        ];
        let numbers = [
            weights.head_dim,
            weights.states,
            weights.groups,
            weights.rank,
            weights.angles,
            i64::from(weights.halves),
            i64::from(weights.heavy_tail),
            weights.floor.to_bits() as i64,
            EPS.to_bits() as i64,
        ];
        let [y] = device::call(device::cistron_mamba3_step, &tensors, &numbers);
        return y;
    }
    mamba3_plain(projected, weights, state, rows)
}

/// [`mamba3`] in plain operators, at the precision of the SSM state.
pub fn mamba3_plain(
    projected: &Tensor,
    weights: &Mamba3<'_>,
    state: Mamba3State<'_>,
    rows: Rows<'_>,
) -> Tensor {
    let kind = state.ssm.kind();
    let of = |t: &Tensor| t.to_kind(kind);
    let (heads, head_dim, states) = (weights.heads(), weights.head_dim, weights.states);
    let (groups, rank) = (weights.groups, weights.rank);
    let (inner, wide) = (heads * head_dim, rank * groups * states);
    let input = of(projected);
    let mut start = 0;
    let mut next = |size: i64| {
        start += size;
        input.narrow(1, start - size, size)
    };
    let by_head = |t: &Tensor| t.reshape([-1, heads, head_dim]);
    let (z, x) = (by_head(&next(inner)), by_head(&next(inner)));
    let (b, c) = (next(wide), next(wide));
    let (dt, rate, trap) = (next(heads), next(heads), next(heads));
    let theta = next(weights.angles);

    let delta = (dt + of(weights.dt_bias)).softplus();
    let rate = if weights.heavy_tail {
        let below: Tensor = 1.0 / (1.0 - rate.clamp_max(0.0));
        (&rate + 1.0).where_self(&rate.ge(0.0), &below)
    } else {
        rate.softplus()
    };
    let keep = (-(&delta * rate.clamp_min(weights.floor))).exp();
    let trap = trap.sigmoid();
    let gamma = &trap * &delta;
    let beta = (&delta - &gamma) * &keep;

    let turn = (theta.tanh() * std::f64::consts::PI).unsqueeze(1);
    let angle = (of(&rows.take(state.angle)) + delta.unsqueeze(-1) * turn)
        .remainder(2.0 * std::f64::consts::PI);
    rows.put(state.angle, &angle);
    // [rows, heads, rank, states]
    let project = |u: &Tensor, norm: &Tensor, bias: &Tensor| {
        let u = u.reshape([-1, rank, groups, states]);
        let mean = (&u * &u).mean_dim([-1i64].as_slice(), true, kind);
        let u = (u / (mean + EPS).sqrt() * of(norm))
            .repeat_interleave_self_int(heads / groups, 2, None)
            .transpose(1, 2);
        weights.rotate(&(u + of(bias)), &angle.unsqueeze(2))
    };
    let b = project(&b, weights.b_norm, weights.b_bias);
    let c = project(&c, weights.c_norm, weights.c_bias);

    // [rows, heads, rank, head_dim]
    let ranks = |t: &Tensor, by: usize| match weights.mimo {
        Some(mimo) => t.unsqueeze(2) * of(mimo[by]),
        None => t.unsqueeze(2),
    };
    let up = ranks(&x, 0);
    let before = ranks(&of(&rows.take(state.v)), 0);
    let k = of(&rows.take(state.k)).transpose(1, 2);
    let scale = |t: &Tensor| t.unsqueeze(-1).unsqueeze(-1);
    let outer = |v: &Tensor, k: &Tensor| v.transpose(-1, -2).matmul(k);
    let ssm = rows.take(state.ssm) * scale(&keep)
        + outer(&before, &k) * scale(&beta)
        + outer(&up, &b) * scale(&gamma);
    rows.put(state.ssm, &ssm);
    rows.put(state.k, &b.transpose(1, 2));
    rows.put(state.v, &x);

    let mut y = c.matmul(&ssm.transpose(-1, -2)) + up * of(weights.d).reshape([-1, 1, 1]);
    if let Some(norm) = weights.norm {
        let mean = (&y * &y).mean_dim([-1i64].as_slice(), true, kind);
        y = y / (mean + EPS).sqrt() * of(norm).reshape([heads, 1, head_dim]);
    }
    y *= ranks(&z, 1).silu();
    if let Some([_, _, down]) = weights.mimo {
        y *= of(down);
    }
    let y = y
        .sum_dim_intlist([2i64].as_slice(), false, kind)
        .reshape([-1, inner]);
    rows.blank(y.to_kind(projected.kind()))
}

/// Sizes of an attention mixer.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Heads.
    pub heads: i64,
    /// Channels a head.
    pub head_dim: i64,
    /// The last `window + 1` positions are seen; all when negative.
    pub window: i64,
    /// Leading channels of each head that are rotated.
    pub rotary_dim: i64,
}

/// Rotation and attention of one token, which is added to the cache: `[rows, heads * head_dim]`.
///
/// - `qkv` `[rows, 3 * heads * head_dim]`, before the rotation
/// - `k`, `v` `[*, slots, heads, head_dim]`, contiguous, of the kind of `qkv`: position p lies in
///   slot `p % slots`; changed in place
/// - `seen` i64 `[*]`: positions before this one. The caller counts on. Positions that no slot
///   is left for are forgotten, so slots must be more than the window
pub fn attention(
    qkv: &Tensor,
    sizes: Attention,
    k: &mut Tensor,
    v: &mut Tensor,
    seen: &Tensor,
    rows: Rows<'_>,
) -> Tensor {
    let same = k.kind() == qkv.kind() && v.kind() == qkv.kind();
    if same && sizes.head_dim <= 256 && device::usable(qkv) {
        let tensors = [
            rows.index,
            rows.mask,
            Some(qkv),
            Some(&*k),
            Some(&*v),
            Some(seen),
        ];
        let numbers = [sizes.window, sizes.rotary_dim];
        let [y] = device::call(device::cistron_attention_step, &tensors, &numbers);
        return y;
    }
    attention_plain(qkv, sizes, k, v, seen, rows)
}

/// [`attention()`] in plain operators.
pub fn attention_plain(
    qkv: &Tensor,
    sizes: Attention,
    k: &mut Tensor,
    v: &mut Tensor,
    seen: &Tensor,
    rows: Rows<'_>,
) -> Tensor {
    let device = qkv.device();
    let position = rows.take(seen);
    let parts = qkv.reshape([-1, 3, sizes.heads, sizes.head_dim]);
    let rotate = |i: i64| rotary::rotate(&parts.select(1, i), &position, sizes.rotary_dim);
    let (query, key, value) = (rotate(0), rotate(1), parts.select(1, 2));
    let slots = k.size()[1];
    let slot = position.remainder(slots);
    let place = [
        Some(Tensor::arange(position.size()[0], (Kind::Int64, device))),
        Some(slot),
    ];
    let add = |cache: &mut Tensor, new: &Tensor| {
        let next = rows
            .take(cache)
            .index_put(&place, &new.to_kind(cache.kind()), false);
        rows.put(cache, &next);
        next.to_kind(query.kind()).transpose(1, 2)
    };
    let (keys, values) = (add(k, &key), add(v, &value));
    // The last position that fell into each slot, negative where there was none.
    let position = position.unsqueeze(1);
    let number = Tensor::arange(slots, (Kind::Int64, device)).unsqueeze(0);
    let held = &position - (&position - number).remainder(slots);
    let held = held.masked_fill(&held.lt(0), i64::MAX);
    let y = attention::positioned(
        &query.unsqueeze(2),
        &keys,
        &values,
        &position,
        &held,
        sizes.window,
    );
    rows.blank(y.reshape([-1, sizes.heads * sizes.head_dim]))
}
