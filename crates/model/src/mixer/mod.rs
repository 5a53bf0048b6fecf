//! Sequence mixers, each in three equal forms: over packed sequences, one step at
//! a time, and as a matrix.

mod attention;
mod fallback;
mod mamba2;
pub mod mamba3;

use std::sync::Arc;

use cistron_kernels::{Layout, Packed};
use tch::{Device, Kind, Tensor};

pub use attention::Attention;
pub use mamba2::Mamba2;
pub use mamba3::Mamba3;

use crate::arch::MixerKind;
use crate::config::Config;
use crate::config::mamba3::Mamba3Shape;
use crate::decode::LayerCache;
use crate::params::Params;
use crate::state::{LayerState, Rows};

/// A mixer of any kind.
#[derive(Debug)]
pub enum Mixer {
    /// Mamba-2.
    Mamba2(Mamba2),
    /// Mamba-3, SISO or MIMO.
    Mamba3(Mamba3),
    /// Attention.
    Attention(Attention),
}

impl Mixer {
    pub(crate) fn new(
        kind: MixerKind,
        config: &Config,
        stage: usize,
        prefix: &str,
        params: &Params,
    ) -> Self {
        match kind {
            MixerKind::Mamba2 => Self::Mamba2(Mamba2::new(config, stage, prefix, params)),
            MixerKind::Mamba3Siso | MixerKind::Mamba3Mimo => {
                let shape = Mamba3Shape::of(config, stage, kind == MixerKind::Mamba3Mimo);
                let get = |name: &str| params.tensor(&format!("{prefix}{name}"));
                Self::Mamba3(Mamba3::new(shape, get))
            }
            MixerKind::Attention => Self::Attention(Attention::new(config, stage, prefix, params)),
        }
    }

    /// `[tokens, width]` to the same; continues from `initial`, and returns the
    /// state after every sequence when `keep` asks for it.
    pub(crate) fn forward(
        &self,
        u: &Packed,
        initial: Option<&LayerState>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        match (self, initial) {
            (Self::Mamba2(mixer), None) => mixer.forward(u, None, keep),
            (Self::Mamba2(mixer), Some(LayerState::Mamba2(state))) => {
                mixer.forward(u, Some(state), keep)
            }
            (Self::Mamba3(mixer), None) => mixer.forward(u, None, keep),
            (Self::Mamba3(mixer), Some(LayerState::Mamba3(state))) => {
                mixer.forward(u, Some(state), keep)
            }
            (Self::Attention(mixer), None) => mixer.forward(u, None, keep),
            (Self::Attention(mixer), Some(LayerState::Attention(state))) => {
                mixer.forward(u, Some(state), keep)
            }
            _ => unreachable!("a state comes from a model of the same layout"),
        }
    }

    /// The matrix that the parallel form multiplies its input by at first, and how many rows
    /// of zeros it wants behind it; none where the form takes the input itself, as Mamba-2's
    /// can on the CPU.
    pub(crate) fn projection(&self, kind: Kind, device: Device) -> Option<(&Tensor, i64)> {
        match self {
            Self::Mamba2(_) if device == Device::Cpu => None,
            Self::Mamba2(mixer) => Some(mixer.projection(kind, device)),
            Self::Attention(mixer) => Some((mixer.projection(), 0)),
            Self::Mamba3(_) => None,
        }
    }

    /// As [`Mixer::forward`], from the product of [`Mixer::projection`].
    pub(crate) fn forward_projected(
        &self,
        layout: &Arc<Layout>,
        projected: Tensor,
        initial: Option<&LayerState>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        match (self, initial) {
            (Self::Mamba2(mixer), None) => mixer.forward_projected(layout, &projected, None, keep),
            (Self::Mamba2(mixer), Some(LayerState::Mamba2(state))) => {
                mixer.forward_projected(layout, &projected, Some(state), keep)
            }
            (Self::Attention(mixer), None) => {
                mixer.forward_projected(layout, &projected, None, keep)
            }
            (Self::Attention(mixer), Some(LayerState::Attention(state))) => {
                mixer.forward_projected(layout, &projected, Some(state), keep)
            }
            _ => unreachable!("a state comes from a model of the same layout"),
        }
    }

    /// The parallel form on one sequence from nothing: `[length, width]` to the same.
    pub fn parallel(&self, u: &Tensor) -> Tensor {
        let layout = Layout::new(&[u.size()[0]], u.device());
        self.forward(&Packed::new(u.shallow_clone(), layout), None, false)
            .0
    }

    /// One token of some sequences: `[rows, width]` to the same.
    pub(crate) fn step(&self, u: &Tensor, rows: &Rows, state: &mut LayerState) -> Tensor {
        match (self, state) {
            (Self::Mamba2(mixer), LayerState::Mamba2(state)) => mixer.step(u, rows, state),
            (Self::Mamba3(mixer), LayerState::Mamba3(state)) => mixer.step(u, rows, state),
            (Self::Attention(mixer), LayerState::Attention(state)) => mixer.step(u, rows, state),
            _ => unreachable!("a state comes from a model of the same layout"),
        }
    }

    /// One token of every sequence, with memory changed in place where `mask` says so.
    pub(crate) fn decode(&self, u: &Tensor, cache: &mut LayerCache, mask: &Tensor) -> Tensor {
        match (self, cache) {
            (Self::Mamba2(mixer), LayerCache::Mamba2(cache)) => mixer.decode(u, cache, mask),
            (Self::Mamba3(mixer), LayerCache::Mamba3(cache)) => mixer.decode(u, cache, mask),
            (Self::Attention(mixer), LayerCache::Attention(cache)) => mixer.decode(u, cache, mask),
            _ => unreachable!("a cache comes from a model of the same layout"),
        }
    }

    /// The mixing matrix of one sequence `u` `[length, width]`: `[heads, length, length]`, or of a
    /// MIMO mixer one for each head, rank of the output and rank of the input.
    ///
    /// [`Mixer::apply_matrix`] completes it to the mixer's output.
    pub fn matrix(&self, u: &Tensor) -> Tensor {
        match self {
            Self::Mamba2(mixer) => mixer.matrix(u),
            Self::Mamba3(mixer) => mixer.matrix(u),
            Self::Attention(mixer) => mixer.matrix(u),
        }
    }

    /// The mixer's output `[length, width]` through the mixing matrix.
    pub fn apply_matrix(&self, matrix: &Tensor, u: &Tensor) -> Tensor {
        match self {
            Self::Mamba2(mixer) => mixer.apply_matrix(matrix, u),
            Self::Mamba3(mixer) => mixer.apply_matrix(matrix, u),
            Self::Attention(mixer) => mixer.apply_matrix(matrix, u),
        }
    }
}
