//! The Mamba-2 block as one operator: on CUDA behind its in-projection, on the CPU with it.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Tensor};

use crate::{Layout, device, ssm};

/// Widest inner row of the gated norm's kernel.
const WIDEST: i64 = 4096;

static JOINED: AtomicBool = AtomicBool::new(true);

/// Whether blocks run as one operator where they can, for the whole process.
pub fn join(on: bool) {
    JOINED.store(on, Ordering::Relaxed);
}

/// Weights of a block. `heads` times `head_dim` is `inner`.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// `[inner + 2 states, 1, taps]`.
    pub conv_weight: &'a Tensor,
    /// `[inner + 2 states]`.
    pub conv_bias: &'a Tensor,
    /// `[heads]`.
    pub dt_bias: &'a Tensor,
    /// `[heads]`.
    pub a_log: &'a Tensor,
    /// The skip, `[heads]`.
    pub d: &'a Tensor,
    /// `[inner]`.
    pub norm: &'a Tensor,
    /// `[width, inner]`.
    pub out_proj: &'a Tensor,
    /// Channels a head.
    pub head_dim: i64,
    /// State size.
    pub states: i64,
}

/// What came before a block's first tokens.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// Inputs of the convolution: `[sequences, taps - 1, inner + 2 states]`.
    pub tail: &'a Tensor,
    /// `[sequences, heads, head_dim, states]`, fp32.
    pub state: &'a Tensor,
}

impl Block<'_> {
    fn inner(&self) -> i64 {
        self.dt_bias.size()[0] * self.head_dim
    }

    /// Whether [`Block::run`] has kernels for `projected`: in bf16 on CUDA, for the head and
    /// state sizes of [`ssm::supported`], 2 to 4 taps, and up to 4096 inner channels.
    pub fn supported(&self, projected: &Tensor) -> bool {
        let (inner, taps) = (self.inner(), self.conv_weight.size()[2]);
        JOINED.load(Ordering::Relaxed)
            && device::joinable(projected)
            && projected.kind() == Kind::BFloat16
            && projected.dim() == 2
            && (2..=4).contains(&taps)
            && inner % 8 == 0
            && self.states % 8 == 0
            && inner <= WIDEST
            && ssm::compiled(self.head_dim, self.states, 1, None)
    }

    /// Convolution, gates, scan, gated norm and out-projection of `projected`
    /// `[tokens, z | x B C | Δ | spare]`: `[tokens, width]` and, when asked to `keep` it, the
    /// state after each sequence, fp32 `[sequences, heads, head_dim, states]`.
    ///
    /// The backward pass keeps the projection, the scan's output and its states, and makes
    /// the rest again.
    ///
    /// # Panics
    ///
    /// Where [`Block::supported`] does not hold, or on a CUDA error.
    pub fn run(
        &self,
        projected: &Tensor,
        layout: &Layout,
        before: Option<Before<'_>>,
        keep: bool,
    ) -> (Tensor, Option<Tensor>) {
        let plan = layout.scan_plan(self.dt_bias.size()[0], 1);
        let inputs = [
            Some(projected),
            Some(self.conv_weight),
            Some(self.conv_bias),
            Some(self.dt_bias),
            Some(self.a_log),
            Some(self.d),
            Some(self.norm),
            Some(self.out_proj),
            Some(layout.positions()),
            Some(layout.starts()),
            Some(&plan.items),
            Some(&plan.first_item),
            before.map(|before| before.tail),
            before.map(|before| before.state),
        ];
        let numbers = [self.states, self.head_dim, plan.chunks, i64::from(keep)];
        let [y, last] = device::call(device::cistron_mamba2, &inputs, &numbers);
        (y, keep.then_some(last))
    }

    /// Most taps of the CPU's convolution.
    const MOST_TAPS: i64 = 9;

    /// Whether [`Block::run_on_cpu`] takes `x` `[tokens, width]`: on the CPU in fp32, where no
    /// gradient is asked for, with at most 9 taps.
    pub fn supported_on_cpu(&self, x: &Tensor, in_proj: &Tensor) -> bool {
        let weights = [
            self.conv_weight,
            self.conv_bias,
            self.dt_bias,
            self.a_log,
            self.d,
            self.norm,
            self.out_proj,
        ];
        JOINED.load(Ordering::Relaxed)
            && x.dim() == 2
            && self.conv_weight.size()[2] <= Self::MOST_TAPS
            && device::usable_on_cpu(&[&[x, in_proj], weights.as_slice()].concat())
    }

    /// The whole block: `x` `[tokens, width]` times `in_proj` `[z | x B C | Δ, width]`, then as
    /// [`Block::run`]. Returns `[tokens, width]` and, when asked to `keep` them, what comes before
    /// the next tokens: the tail of the convolution `[sequences, taps - 1, inner + 2 states]` and
    /// the state `[sequences, heads, head_dim, states]`.
    ///
    /// Each sequence is worked through alone, in chunks of tokens that stay in cache: results
    /// depend neither on what else is packed nor on threads.
    ///
    /// # Panics
    ///
    /// Where [`Block::supported_on_cpu`] does not hold, or when memory runs out.
    pub fn run_on_cpu(
        &self,
        x: &Tensor,
        in_proj: &Tensor,
        layout: &Layout,
        before: Option<Before<'_>>,
        keep: bool,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let inputs = [
            Some(x),
            Some(in_proj),
            Some(self.conv_weight),
            Some(self.conv_bias),
            Some(self.dt_bias),
            Some(self.a_log),
            Some(self.d),
            Some(self.norm),
            Some(self.out_proj),
            Some(layout.starts()),
            before.map(|before| before.tail),
            before.map(|before| before.state),
        ];
        let numbers = [self.head_dim, self.states, i64::from(keep)];
        let [y, tail, state] = device::call(device::cistron_mamba2_cpu, &inputs, &numbers);
        (y, keep.then_some((tail, state)))
    }
}
