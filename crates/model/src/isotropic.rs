//! A stack of pre-norm residual blocks with a norm at its end.

use std::sync::Arc;

use cistron_kernels::checkpoint::checkpoint;
use cistron_kernels::norm::{add_rms_norm, add_rms_norm_linear};
use cistron_kernels::swiglu::swiglu_linear;
use cistron_kernels::{Layout, Packed};
use tch::{Device, Kind, Tensor};

use crate::arch::Stack;
use crate::compute::Compute;
use crate::config::Config;
use crate::decode::LayerCache;
use crate::mixer::Mixer;
use crate::params::Params;
use crate::state::{LayerState, Rows};

/// SwiGLU: `fc2(silu(gate) ⊙ value)`, the first half of `fc1` being the value.
#[derive(Debug)]
struct SwiGlu {
    fc1: Tensor,
    fc2: Tensor,
}

impl SwiGlu {
    /// From the product with `fc1` on.
    fn finish(&self, projected: &Tensor) -> Tensor {
        swiglu_linear(projected, &self.fc2)
    }
}

#[derive(Debug)]
struct Layer {
    norm1: Tensor,
    mixer: Mixer,
    ffn: Option<(Tensor, SwiGlu)>,
    /// All of its parameters.
    leaves: Vec<Tensor>,
}

// SAFETY: the parameters are only read, which libtorch allows from any number of threads.
// A layer is read by others while it runs again in the backward pass.
#[allow(unsafe_code)]
unsafe impl Sync for Layer {}

/// The residual stream (fp32) and what the last branch adds to it, in the order
/// of their sum.
struct Stream {
    residual: Tensor,
    branch: Option<Tensor>,
}

impl Stream {
    fn new(x: &Tensor) -> Self {
        Self {
            residual: x.to_kind(Kind::Float),
            branch: None,
        }
    }

    /// Adds the branch at last: fp32.
    fn sum(self) -> Tensor {
        match self.branch {
            Some(branch) => self.residual + branch,
            None => self.residual,
        }
    }

    /// Adds the branch and normalises the sum, in `kind`.
    fn norm(&mut self, weight: &Tensor, kind: Kind) -> Tensor {
        let branch = self.branch.take();
        let (sum, y) = add_rms_norm(&self.residual, branch.as_ref(), weight, kind);
        self.residual = sum;
        y
    }

    /// As [`Stream::norm`], times a matrix with `spare` rows of zeros behind it.
    fn norm_linear(&mut self, norm: &Tensor, weight: &Tensor, spare: i64, kind: Kind) -> Tensor {
        let branch = self.branch.take();
        let (sum, y) =
            add_rms_norm_linear(&self.residual, branch.as_ref(), norm, weight, spare, kind);
        self.residual = sum;
        y
    }
}

impl Layer {
    /// Normalised tokens through the mixer, then the other branch.
    fn run(&self, stream: &mut Stream, kind: Kind, mix: impl FnOnce(&Mixer, Tensor) -> Tensor) {
        let mixed = mix(&self.mixer, stream.norm(&self.norm1, kind));
        self.finish(stream, kind, mixed);
    }

    /// The same in the parallel form; returns what `keep` asks for.
    fn run_packed(
        &self,
        stream: &mut Stream,
        kind: Kind,
        layout: &Arc<Layout>,
        initial: Option<&LayerState>,
        keep: bool,
    ) -> Option<LayerState> {
        let (mixed, state) = match self.mixer.projection(kind, layout.device()) {
            Some((weight, spare)) => {
                let projected = stream.norm_linear(&self.norm1, weight, spare, kind);
                self.mixer
                    .forward_projected(layout, projected, initial, keep)
            }
            None => {
                let u = Packed::new(stream.norm(&self.norm1, kind), Arc::clone(layout));
                self.mixer.forward(&u, initial, keep)
            }
        };
        self.finish(stream, kind, mixed);
        state
    }

    fn finish(&self, stream: &mut Stream, kind: Kind, mixed: Tensor) {
        stream.branch = Some(mixed);
        if let Some((norm2, ffn)) = &self.ffn {
            let projected = stream.norm_linear(norm2, &ffn.fc1, 0, kind);
            stream.branch = Some(ffn.finish(&projected));
        }
    }
}

/// An isotropic stack: encoder, decoder or main network.
#[derive(Debug)]
pub(crate) struct Isotropic {
    layers: Vec<Arc<Layer>>,
    norm: Tensor,
    stage: usize,
}

impl Isotropic {
    pub fn new(
        config: &Config,
        stack: &Stack,
        stage: usize,
        prefix: &str,
        params: &Params,
    ) -> Self {
        let layer = |(i, block): (usize, &crate::arch::Block)| {
            let get = |name: &str| params.tensor(&format!("{prefix}layers.{i}.{name}"));
            let mixer = format!("{prefix}layers.{i}.mixer.");
            let own = format!("{prefix}layers.{i}.");
            let leaves = params.iter().filter(|(name, _)| name.starts_with(&own));
            Arc::new(Layer {
                norm1: get("norm1.weight"),
                mixer: Mixer::new(block.mixer, config, stage, &mixer, params),
                ffn: block.ffn.then(|| {
                    let ffn = SwiGlu {
                        fc1: get("mlp.fc1.weight"),
                        fc2: get("mlp.fc2.weight"),
                    };
                    (get("norm2.weight"), ffn)
                }),
                leaves: leaves
                    .map(|(_, param)| param.tensor.shallow_clone())
                    .collect(),
            })
        };
        Self {
            layers: stack.blocks().iter().enumerate().map(layer).collect(),
            norm: params.tensor(&format!("{prefix}rmsnorm.weight")),
            stage,
        }
    }

    /// The mixers, first to last.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.layers.iter().map(|layer| &layer.mixer)
    }

    /// Runs the blocks around the residual stream `x` with `mix` as the mixers; returns
    /// tensors of `kind`.
    fn run(
        &self,
        x: &Tensor,
        kind: Kind,
        mut mix: impl FnMut(usize, &Mixer, Tensor) -> Tensor,
    ) -> Tensor {
        let mut stream = Stream::new(x);
        for (i, layer) in self.layers.iter().enumerate() {
            layer.run(&mut stream, kind, |mixer, u| mix(i, mixer, u));
        }
        stream.norm(&self.norm, kind)
    }

    /// As [`Isotropic::run`] from nothing, keeping the input of each layer alone.
    fn run_checkpointed(&self, x: &Packed, kind: Kind) -> Tensor {
        let mut residual = x.values.to_kind(Kind::Float);
        for layer in &self.layers {
            let (own, layout) = (Arc::clone(layer), Arc::clone(&x.layout));
            let leaves: Vec<&Tensor> = layer.leaves.iter().collect();
            residual = checkpoint(&residual, &leaves, move |residual| {
                let mut stream = Stream::new(residual);
                own.run_packed(&mut stream, kind, &layout, None, false);
                stream.sum()
            });
        }
        Stream::new(&residual).norm(&self.norm, kind)
    }

    /// `[tokens, width]` to the same, from `initial`; the states after it when `keep`.
    pub fn forward(
        &self,
        x: &Packed,
        initial: Option<&[LayerState]>,
        keep: bool,
        compute: &Compute,
    ) -> (Packed, Vec<LayerState>) {
        let again = compute.checkpointing.covers(self.stage);
        if again && initial.is_none() && !keep && x.values.requires_grad() {
            return (x.with(self.run_checkpointed(x, compute.kind())), Vec::new());
        }
        let mut states = Vec::new();
        let (kind, mut stream) = (compute.kind(), Stream::new(&x.values));
        for (i, layer) in self.layers.iter().enumerate() {
            let initial = initial.map(|states| &states[i]);
            states.extend(layer.run_packed(&mut stream, kind, &x.layout, initial, keep));
        }
        (x.with(stream.norm(&self.norm, kind)), states)
    }

    /// One token of some sequences: `[rows, width]` to the same.
    pub fn step(
        &self,
        x: &Tensor,
        rows: &Rows,
        states: &mut [LayerState],
        compute: &Compute,
    ) -> Tensor {
        self.run(x, compute.kind(), |i, mixer, u| {
            mixer.step(&u, rows, &mut states[i])
        })
    }

    /// One token of every sequence, `[sequences, width]` to the same; sequences outside `mask`
    /// keep their memory.
    pub fn decode(
        &self,
        x: &Tensor,
        caches: &mut [LayerCache],
        mask: &Tensor,
        compute: &Compute,
    ) -> Tensor {
        self.run(x, compute.kind(), |i, mixer, u| {
            mixer.decode(&u, &mut caches[i], mask)
        })
    }

    /// Memory of nothing; keys, values and convolution tails are of `kind`.
    pub fn empty_state(&self, sequences: i64, options: (Kind, Device)) -> Vec<LayerState> {
        let empty = |mixer: &Mixer| match mixer {
            Mixer::Mamba2(mixer) => mixer.empty_state(sequences, options),
            Mixer::Mamba3(mixer) => mixer.empty_state(sequences, options.1),
            Mixer::Attention(mixer) => mixer.empty_state(sequences, options),
        };
        self.mixers().map(empty).collect()
    }
}
