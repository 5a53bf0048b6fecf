//! Causal multi-head attention with a sliding window and partial rotary embedding.

use std::sync::Arc;

use cistron_kernels::{Layout, Packed, attention, linear, rotary, step, upload};
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::decode::AttentionCache;
use crate::params::Params;
use crate::state::{AttentionState, LayerState, Rows};

/// An attention mixer; parameter names are upstream's.
#[derive(Debug)]
pub struct Attention {
    qkv: Tensor,
    out_proj: Tensor,
    heads: i64,
    head_dim: i64,
    rotary_dim: i64,
    window: i64,
}

impl Attention {
    pub(crate) fn new(config: &Config, stage: usize, prefix: &str, params: &Params) -> Self {
        let heads = config.attn_cfg.num_heads.at(stage);
        Self {
            qkv: params.tensor(&format!("{prefix}Wqkv.weight")),
            out_proj: params.tensor(&format!("{prefix}out_proj.weight")),
            heads,
            head_dim: config.d_model[stage] / heads,
            rotary_dim: config.attn_cfg.rotary_emb_dim.at(stage),
            window: config.attn_cfg.window_size.at(stage),
        }
    }

    /// Rotated queries and keys, and values: `[tokens, heads, head_dim]` each.
    fn project(&self, u: &Tensor, positions: &Tensor) -> (Tensor, Tensor, Tensor) {
        self.rotated(&linear(u, &self.qkv), positions)
    }

    fn rotated(&self, qkv: &Tensor, positions: &Tensor) -> (Tensor, Tensor, Tensor) {
        let qkv = qkv.reshape([-1, 3, self.heads, self.head_dim]);
        let [q, k, v] = rotary::rotate_joined(&qkv, positions, self.rotary_dim);
        (q, k, v)
    }

    fn finish(&self, y: &Tensor) -> Tensor {
        linear(&y.reshape([-1, self.heads * self.head_dim]), &self.out_proj)
    }

    /// What the parallel form starts with.
    pub(crate) fn projection(&self) -> &Tensor {
        &self.qkv
    }

    pub(crate) fn forward(
        &self,
        u: &Packed,
        initial: Option<&AttentionState>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        self.forward_projected(&u.layout, &linear(&u.values, &self.qkv), initial, keep)
    }

    /// As `forward`, from the product of [`Attention::projection`].
    pub(crate) fn forward_projected(
        &self,
        layout: &Layout,
        qkv: &Tensor,
        initial: Option<&AttentionState>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        let device = qkv.device();
        let offset = |counts: &[i64]| upload(counts, device);
        let positions = match initial {
            None => layout.positions().shallow_clone(),
            Some(state) => {
                let lengths = offset(layout.lengths());
                layout.positions()
                    + offset(&state.seen).repeat_interleave_self_tensor(&lengths, 0, layout.total())
            }
        };
        let (q, k, v) = self.rotated(qkv, &positions);
        let options = (qkv.kind(), device);
        let Some(state) = initial else {
            let y = attention::packed(&q, &k, &v, layout, self.window);
            let empty = || self.empty(layout.sequences(), options);
            let next = keep.then(|| {
                self.remember(&empty(), &layout.pad(&k), &layout.pad(&v), layout.lengths())
            });
            return (self.finish(&y), next);
        };
        if layout.total() > 0 && attention::flash_supported(&q) {
            let (keys, all_k, all_v) = self.join(state, &k, &v, layout);
            let y = attention::flash(&q, &all_k, &all_v, layout, &keys, self.window);
            let next = keep
                .then(|| self.remember(state, &layout.pad(&k), &layout.pad(&v), layout.lengths()));
            return (self.finish(&y), next);
        }
        // [sequences, max, heads, head_dim]
        let (q, k, v) = (layout.pad(&q), layout.pad(&k), layout.pad(&v));
        let heads_first = |t: &Tensor| t.transpose(1, 2);
        let steps = Tensor::arange(layout.max(), (Kind::Int64, device)).unsqueeze(0);
        let here = steps + offset(&state.seen).unsqueeze(1);
        let (all_k, all_v) = (
            Tensor::cat(&[&state.k.to_kind(k.kind()), &k], 1),
            Tensor::cat(&[&state.v.to_kind(v.kind()), &v], 1),
        );
        let y = attention::positioned(
            &heads_first(&q),
            &heads_first(&all_k),
            &heads_first(&all_v),
            &here,
            &Tensor::cat(&[&state.positions(), &here], 1),
            self.window,
        );
        let next = keep.then(|| self.remember(state, &k, &v, layout.lengths()));
        (self.finish(&layout.unpad(&heads_first(&y))), next)
    }

    /// Held and new keys and values of each sequence end to end, with their layout.
    fn join(
        &self,
        state: &AttentionState,
        k: &Tensor,
        v: &Tensor,
        layout: &Layout,
    ) -> (Arc<Layout>, Tensor, Tensor) {
        let counts: Vec<i64> = state
            .held
            .iter()
            .zip(layout.lengths())
            .map(|(held, length)| held + length)
            .collect();
        let keys = Layout::new(&counts, k.device());
        // One list of places: a slice for each sequence takes the host longer than all else.
        let (slots, rows) = (state.k.size()[1], state.k.size()[0]);
        let mut index = Vec::with_capacity(counts.iter().sum::<i64>() as usize);
        for (row, (&held, &length)) in (0i64..).zip(state.held.iter().zip(layout.lengths())) {
            let first = rows * slots + layout.offsets()[row as usize];
            index.extend(row * slots..row * slots + held);
            index.extend(first..first + length);
        }
        let index = upload(&index, k.device());
        let cut = |held: &Tensor, new: &Tensor| {
            let held = held.to_kind(new.kind()).flatten(0, 1);
            Tensor::cat(&[&held, new], 0).index_select(0, &index)
        };
        (keys, cut(&state.k, k), cut(&state.v, v))
    }

    /// The state after `lengths` more tokens with keys and values `[sequences, max, heads, head_dim]`.
    fn remember(
        &self,
        state: &AttentionState,
        k: &Tensor,
        v: &Tensor,
        lengths: &[i64],
    ) -> LayerState {
        let old = state.k.size()[1];
        let limit = if self.window < 0 {
            i64::MAX
        } else {
            self.window
        };
        let kept: Vec<i64> = state
            .held
            .iter()
            .zip(lengths)
            .map(|(held, length)| (held + length).min(limit))
            .collect();
        let slots = kept.iter().copied().max().unwrap_or(0).max(1);
        // Held and new tokens of a row as one list; its last `kept` go to the front slots.
        let row_slots = old + k.size()[1];
        let mut index = Vec::with_capacity(kept.len() * slots as usize);
        for (row, ((&held, &length), &kept)) in
            (0i64..).zip(state.held.iter().zip(lengths).zip(&kept))
        {
            let (start, first) = (row * row_slots, held + length - kept);
            let place = |i: i64| start + if i < held { i } else { old + i - held };
            index.extend((first..first + kept).map(place));
            index.extend(std::iter::repeat_n(start, (slots - kept) as usize));
        }
        let index = upload(&index, k.device());
        let gather = |old: &Tensor, new: &Tensor| {
            let both = Tensor::cat(&[&old.to_kind(new.kind()), new], 1);
            // Rows of whole tokens: a copy of each, where an index for each value is a walk.
            both.flatten(0, 1).index_select(0, &index).reshape([
                -1,
                slots,
                self.heads,
                self.head_dim,
            ])
        };
        LayerState::Attention(AttentionState {
            k: gather(&state.k, k),
            v: gather(&state.v, v),
            seen: state
                .seen
                .iter()
                .zip(lengths)
                .map(|(seen, length)| seen + length)
                .collect(),
            held: kept,
        })
    }

    pub(crate) fn step(&self, u: &Tensor, rows: &Rows, state: &mut AttentionState) -> Tensor {
        let device = u.device();
        state.reserve(&rows.list, self.window);
        let of = |counts: &[i64]| {
            rows.list
                .iter()
                .map(|&row| counts[row as usize])
                .collect::<Vec<_>>()
        };
        let (held, seen) = (of(&state.held), of(&state.seen));
        let positions = upload(&seen, device);
        let (q, k, v) = self.project(u, &positions);
        let place = [Some(rows.index(device)), Some(upload(&held, device))];
        let kind = state.k.kind();
        state.k = state.k.index_put(&place, &k.to_kind(kind), false);
        state.v = state.v.index_put(&place, &v.to_kind(kind), false);
        for &row in &rows.list {
            state.held[row as usize] += 1;
            state.seen[row as usize] += 1;
        }
        let slots = held.iter().copied().max().unwrap_or(0) + 1;
        let cut = |t: &Tensor| {
            let held = rows.take(t).narrow(1, 0, slots).transpose(1, 2);
            held.to_kind(q.kind())
        };
        let key_positions = rows.take(&state.positions()).narrow(1, 0, slots);
        let y = attention::positioned(
            &q.unsqueeze(2),
            &cut(&state.k),
            &cut(&state.v),
            &positions.unsqueeze(1),
            &key_positions,
            self.window,
        );
        self.finish(&y)
    }

    pub(crate) fn decode(&self, u: &Tensor, cache: &mut AttentionCache, mask: &Tensor) -> Tensor {
        let qkv = linear(u, &self.qkv);
        let sizes = step::Attention {
            heads: self.heads,
            head_dim: self.head_dim,
            window: self.window,
            rotary_dim: self.rotary_dim,
        };
        let rows = step::Rows {
            mask: Some(mask),
            ..step::Rows::default()
        };
        let y = step::attention(&qkv, sizes, &mut cache.k, &mut cache.v, &cache.seen, rows);
        let _ = cache.seen.g_add_(mask);
        self.finish(&y)
    }

    fn empty(&self, sequences: i64, options: (Kind, Device)) -> AttentionState {
        let room = || Tensor::zeros([sequences, 1, self.heads, self.head_dim], options);
        let none = || vec![0; sequences as usize];
        AttentionState {
            k: room(),
            v: room(),
            held: none(),
            seen: none(),
        }
    }

    pub(crate) fn empty_state(&self, sequences: i64, options: (Kind, Device)) -> LayerState {
        LayerState::Attention(self.empty(sequences, options))
    }

    fn single(&self, u: &Tensor) -> (Tensor, Tensor, Tensor) {
        let positions = Tensor::arange(u.size()[0], (Kind::Int64, u.device()));
        let (q, k, v) = self.project(u, &positions);
        let heads_first = |t: Tensor| t.transpose(0, 1).unsqueeze(0);
        (heads_first(q), heads_first(k), heads_first(v))
    }

    /// `[heads, length, length]`: the attention weights.
    pub fn matrix(&self, u: &Tensor) -> Tensor {
        let (q, k, _) = self.single(u);
        attention::matrix(&q, &k, self.window).squeeze_dim(0)
    }

    /// Output `[length, width]` from the matrix.
    pub fn apply_matrix(&self, matrix: &Tensor, u: &Tensor) -> Tensor {
        let (_, _, v) = self.single(u);
        self.finish(&matrix.matmul(&v.squeeze_dim(0)).transpose(0, 1))
    }
}
