//! A stack of pre-norm residual blocks with a norm at its end.

use cistron_kernels::Packed;
use cistron_kernels::norm::rms_norm;
use tch::{Device, Kind, Tensor};

use crate::arch::Stack;
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
    fn forward(&self, x: &Tensor) -> Tensor {
        let halves = x.linear(&self.fc1, None::<&Tensor>).chunk(2, -1);
        (halves[1].silu() * &halves[0]).linear(&self.fc2, None::<&Tensor>)
    }
}

#[derive(Debug)]
struct Layer {
    norm1: Tensor,
    mixer: Mixer,
    ffn: Option<(Tensor, SwiGlu)>,
}

/// An isotropic stack: encoder, decoder or main network.
#[derive(Debug)]
pub(crate) struct Isotropic {
    layers: Vec<Layer>,
    norm: Tensor,
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
            Layer {
                norm1: get("norm1.weight"),
                mixer: Mixer::new(block.mixer, config, stage, &mixer, params),
                ffn: block.ffn.then(|| {
                    let ffn = SwiGlu {
                        fc1: get("mlp.fc1.weight"),
                        fc2: get("mlp.fc2.weight"),
                    };
                    (get("norm2.weight"), ffn)
                }),
            }
        };
        Self {
            layers: stack.blocks().iter().enumerate().map(layer).collect(),
            norm: params.tensor(&format!("{prefix}rmsnorm.weight")),
        }
    }

    /// The mixers, first to last.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.layers.iter().map(|layer| &layer.mixer)
    }

    /// Runs the blocks around the residual stream `x` (fp32) with `mix` as the mixers.
    fn run(&self, x: &Tensor, mut mix: impl FnMut(usize, &Mixer, Tensor) -> Tensor) -> Tensor {
        let mut residual = x.to_kind(Kind::Float);
        for (i, layer) in self.layers.iter().enumerate() {
            let mixed = mix(i, &layer.mixer, rms_norm(&residual, &layer.norm1));
            residual = &residual + mixed;
            if let Some((norm2, ffn)) = &layer.ffn {
                residual = &residual + ffn.forward(&rms_norm(&residual, norm2));
            }
        }
        rms_norm(&residual, &self.norm)
    }

    /// `[tokens, width]` to the same, from `initial`; the states after it when `keep`.
    pub fn forward(
        &self,
        x: &Packed,
        initial: Option<&[LayerState]>,
        keep: bool,
    ) -> (Packed, Vec<LayerState>) {
        let mut states = Vec::new();
        let out = self.run(&x.values, |i, mixer, u| {
            let (y, state) = mixer.forward(&x.with(u), initial.map(|states| &states[i]), keep);
            states.extend(state);
            y
        });
        (x.with(out), states)
    }

    /// One token of some sequences: `[rows, width]` to the same.
    pub fn step(&self, x: &Tensor, rows: &Rows, states: &mut [LayerState]) -> Tensor {
        self.run(x, |i, mixer, u| mixer.step(&u, rows, &mut states[i]))
    }

    /// One token of every sequence, `[sequences, width]` to the same; sequences outside `mask`
    /// keep their memory.
    pub fn decode(&self, x: &Tensor, caches: &mut [LayerCache], mask: &Tensor) -> Tensor {
        self.run(x, |i, mixer, u| mixer.decode(&u, &mut caches[i], mask))
    }

    pub fn empty_state(&self, sequences: i64, device: Device) -> Vec<LayerState> {
        let empty = |mixer: &Mixer| match mixer {
            Mixer::Mamba2(mixer) => mixer.empty_state(sequences, device),
            Mixer::Attention(mixer) => mixer.empty_state(sequences, device),
        };
        self.mixers().map(empty).collect()
    }
}
