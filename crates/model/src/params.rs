//! Parameters: names, shapes, initial values, and how the optimizer treats each.

use std::collections::BTreeMap;

use rand::distributions::{Distribution, Uniform};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::arch::{Arch, MixerKind, Stack};
use crate::config::mamba3::Mamba3Shape;
use crate::config::{Config, Numerics};
use crate::error::ModelError;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Init {
    Normal(f64),
    Uniform(f64),
    Constant(f64),
    Identity,
    /// `ln U(1, 16)`.
    LogDecay,
    /// Inverse softplus of a step size log-uniform in `[1e-3, 1e-1]`.
    StepSize,
}

/// Ends of the names of the matrices that are multiplied in the compute kind.
const PRODUCTS: [&str; 5] = [
    ".in_proj.weight",
    ".out_proj.weight",
    ".Wqkv.weight",
    ".fc1.weight",
    ".fc2.weight",
];

/// What the configuration says of one parameter.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Upstream state-dict name.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Stage whose learning rate it has.
    pub stage: usize,
    /// Whether weight decay applies.
    pub weight_decay: bool,
    init: Init,
}

/// One parameter of a model.
#[derive(Debug)]
pub struct Param {
    /// The value: an fp32 leaf that requires a gradient (see [`Params::for_inference`]).
    pub tensor: Tensor,
    /// Stage it belongs to, outermost 0.
    pub stage: usize,
    /// Its learning rate over the base rate.
    pub lr_multiplier: f64,
    /// Whether weight decay applies.
    pub weight_decay: bool,
}

/// All parameters by upstream name, in the order of their names.
#[derive(Debug)]
pub struct Params(BTreeMap<String, Param>);

impl Params {
    /// Draws initial values. The same seed gives the same values on every machine
    /// and device: each tensor has its own stream, keyed by seed and name.
    pub fn init(config: &Config, seed: u64, device: Device) -> Self {
        Self::build(config, |spec| Ok(spec.draw(seed).to_device(device)))
            .expect("drawing values cannot fail")
    }

    /// Takes each tensor from `find`, which sees its name and shape.
    ///
    /// # Errors
    ///
    /// What `find` returns.
    pub fn build(
        config: &Config,
        mut find: impl FnMut(&Spec) -> Result<Tensor, ModelError>,
    ) -> Result<Self, ModelError> {
        let mut params = BTreeMap::new();
        for spec in specs(config) {
            let tensor = find(&spec)?.to_kind(Kind::Float).set_requires_grad(true);
            let lr_multiplier = config.lr_multiplier(spec.stage);
            let Spec {
                name,
                stage,
                weight_decay,
                ..
            } = spec;
            params.insert(
                name,
                Param {
                    tensor,
                    stage,
                    lr_multiplier,
                    weight_decay,
                },
            );
        }
        Ok(Self(params))
    }

    /// Parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.0.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.get(name)
    }

    /// A handle on the tensor `name`, which the configuration is known to have.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        match self.0.get(name) {
            Some(param) => param.tensor.shallow_clone(),
            None => unreachable!("no parameter '{name}' follows from the configuration"),
        }
    }

    /// Handles on the same values, with gradients of their own.
    pub fn leaves(&self) -> Self {
        let mut leaves = self.shallow_clone();
        for param in leaves.0.values_mut() {
            param.tensor = param.tensor.detach().set_requires_grad(true);
        }
        leaves
    }

    /// The same values without gradients, the matrices of mixers and SwiGLUs in `kind`.
    pub fn for_inference(&self, kind: Kind) -> Self {
        let mut params = self.shallow_clone();
        for (name, param) in &mut params.0 {
            let value = param.tensor.detach();
            param.tensor = if PRODUCTS.iter().any(|suffix| name.ends_with(suffix)) {
                value.to_kind(kind)
            } else {
                value
            };
        }
        params
    }

    /// Handles on the same tensors, for another thread.
    pub fn shallow_clone(&self) -> Self {
        let clone = |param: &Param| Param {
            tensor: param.tensor.shallow_clone(),
            ..*param
        };
        Self(
            self.0
                .iter()
                .map(|(name, param)| (name.clone(), clone(param)))
                .collect(),
        )
    }

    /// Number of values in all tensors.
    pub fn count(&self) -> u64 {
        self.0
            .values()
            .map(|param| param.tensor.numel() as u64)
            .sum()
    }
}

/// Every parameter that `config` implies.
pub fn specs(config: &Config) -> Vec<Spec> {
    let mut out = Specs {
        config,
        specs: Vec::new(),
    };
    let (vocabulary, width) = (config.vocab_size, config.d_model[0]);
    out.push(
        "embeddings.weight".into(),
        &[vocabulary, width],
        0,
        false,
        Init::Normal(1.0),
    );
    if !config.tie_embeddings {
        out.push(
            "lm_head.weight".into(),
            &[vocabulary, width],
            0,
            true,
            Init::Normal(0.02),
        );
    }
    out.stage("backbone.", &config.arch_layout, 0, 0);
    out.specs
}

struct Specs<'a> {
    config: &'a Config,
    specs: Vec<Spec>,
}

impl Specs<'_> {
    fn push(&mut self, name: String, shape: &[i64], stage: usize, decay: bool, init: Init) {
        let weight_decay = match self.config.cistron.numerics {
            Numerics::Strict => decay,
            Numerics::Parity => !(name.ends_with(".bias") || name.contains(".norm.")),
        };
        self.specs.push(Spec {
            name,
            shape: shape.to_vec(),
            stage,
            weight_decay,
            init,
        });
    }

    /// `height` counts the residual branches of the stages around this one.
    fn stage(&mut self, prefix: &str, arch: &Arch, stage: usize, height: i64) {
        let width = self.config.d_model[stage];
        if stage > 0 && width > self.config.d_model[stage - 1] {
            let pad = width - self.config.d_model[stage - 1];
            self.push(
                format!("{prefix}pad_dimension"),
                &[pad],
                stage,
                false,
                Init::Constant(0.0),
            );
        }
        match arch {
            Arch::Main(stack) => {
                let height = height + stack.height();
                self.stack(&format!("{prefix}main_network."), stack, stage, height);
            }
            Arch::Routed {
                encoder,
                inner,
                decoder,
            } => {
                let height = height + encoder.height() + decoder.height();
                self.stack(&format!("{prefix}encoder."), encoder, stage, height);
                for projection in ["q", "k"] {
                    let name = format!("{prefix}routing_module.{projection}_proj_layer.weight");
                    self.push(name, &[width, width], stage, true, Init::Identity);
                }
                let bias = match self.config.cistron.numerics {
                    Numerics::Strict => Init::Constant(0.0),
                    Numerics::Parity => Init::Uniform((width as f64).powf(-0.5)),
                };
                let name = format!("{prefix}residual_proj.weight");
                self.push(name, &[width, width], stage, true, Init::Constant(0.0));
                self.push(
                    format!("{prefix}residual_proj.bias"),
                    &[width],
                    stage,
                    false,
                    bias,
                );
                self.stage(&format!("{prefix}main_network."), inner, stage + 1, height);
                self.stack(&format!("{prefix}decoder."), decoder, stage, height);
            }
        }
    }

    fn stack(&mut self, prefix: &str, stack: &Stack, stage: usize, height: i64) {
        let width = self.config.d_model[stage];
        let linear = Init::Normal(0.02);
        let output = Init::Normal(0.02 / (height as f64).sqrt());
        let one = Init::Constant(1.0);
        for (i, block) in stack.blocks().iter().enumerate() {
            let layer = format!("{prefix}layers.{i}.");
            self.push(format!("{layer}norm1.weight"), &[width], stage, false, one);
            match block.mixer {
                MixerKind::Mamba2 => self.mamba2(&format!("{layer}mixer."), stage, output),
                MixerKind::Mamba3Siso | MixerKind::Mamba3Mimo => {
                    let mimo = block.mixer == MixerKind::Mamba3Mimo;
                    let shape = Mamba3Shape::of(self.config, stage, mimo);
                    self.mamba3(&format!("{layer}mixer."), &shape, stage, output);
                }
                MixerKind::Attention => {
                    let mixer = format!("{layer}mixer.");
                    self.push(
                        format!("{mixer}Wqkv.weight"),
                        &[3 * width, width],
                        stage,
                        true,
                        linear,
                    );
                    self.push(
                        format!("{mixer}out_proj.weight"),
                        &[width, width],
                        stage,
                        true,
                        output,
                    );
                }
            }
            if block.ffn {
                let ffn = self.config.ffn_width(stage);
                self.push(format!("{layer}norm2.weight"), &[width], stage, false, one);
                self.push(
                    format!("{layer}mlp.fc1.weight"),
                    &[2 * ffn, width],
                    stage,
                    true,
                    linear,
                );
                self.push(
                    format!("{layer}mlp.fc2.weight"),
                    &[width, ffn],
                    stage,
                    true,
                    output,
                );
            }
        }
        self.push(
            format!("{prefix}rmsnorm.weight"),
            &[width],
            stage,
            false,
            one,
        );
    }

    fn mamba2(&mut self, prefix: &str, stage: usize, output: Init) {
        let ssm = &self.config.ssm_cfg;
        let width = self.config.d_model[stage];
        let (inner, state) = (width * ssm.expand.at(stage), ssm.d_state.at(stage));
        let (heads, taps) = (inner / ssm.headdim.at(stage), ssm.d_conv.at(stage));
        let mixed = inner + 2 * state;
        let conv = Init::Uniform((taps as f64).powf(-0.5));
        let mut push = |name: &str, shape: &[i64], decay, init| {
            self.push(format!("{prefix}{name}"), shape, stage, decay, init);
        };
        push(
            "in_proj.weight",
            &[inner + mixed + heads, width],
            true,
            Init::Normal(0.02),
        );
        push("conv1d.weight", &[mixed, 1, taps], true, conv);
        push("conv1d.bias", &[mixed], false, conv);
        push("dt_bias", &[heads], false, Init::StepSize);
        push("A_log", &[heads], false, Init::LogDecay);
        push("D", &[heads], false, Init::Constant(1.0));
        push("norm.weight", &[inner], false, Init::Constant(1.0));
        push("out_proj.weight", &[width, inner], true, output);
    }

    /// Decay is for the two large matrices; all else scales or shifts channels.
    fn mamba3(&mut self, prefix: &str, shape: &Mamba3Shape, stage: usize, output: Init) {
        for (name, sizes) in shape.parameters() {
            let (decay, init) = match name {
                "in_proj.weight" => (true, Init::Normal(0.02)),
                "out_proj.weight" => (true, output),
                "dt_bias" => (false, Init::StepSize),
                "mimo_x" | "mimo_o" => (false, Init::Constant(1.0 / shape.rank as f64)),
                _ => (false, Init::Constant(1.0)),
            };
            self.push(format!("{prefix}{name}"), &sizes, stage, decay, init);
        }
    }
}

impl Spec {
    fn draw(&self, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ stream(&self.name));
        let count = self.shape.iter().product::<i64>() as usize;
        let mut fill = |draw: &mut dyn FnMut(&mut dyn RngCore) -> f64| -> Tensor {
            let values: Vec<f32> = (0..count).map(|_| draw(&mut rng) as f32).collect();
            Tensor::from_slice(&values).reshape(&self.shape)
        };
        match self.init {
            Init::Constant(value) => Tensor::full(&self.shape, value, (Kind::Float, Device::Cpu)),
            Init::Identity => Tensor::eye(self.shape[0], (Kind::Float, Device::Cpu)),
            Init::Normal(std) => fill(&mut |rng| {
                let z: f64 = rand_distr::StandardNormal.sample(rng);
                std * z
            }),
            Init::Uniform(bound) => {
                let uniform = Uniform::new(-bound, bound);
                fill(&mut |rng| uniform.sample(rng))
            }
            Init::LogDecay => {
                let uniform = Uniform::new(1.0f64, 16.0);
                fill(&mut |rng| uniform.sample(rng).ln())
            }
            Init::StepSize => {
                let uniform = Uniform::new(1e-3f64.ln(), 1e-1f64.ln());
                fill(&mut |rng| {
                    let step = uniform.sample(rng).exp().max(1e-4);
                    step + (-(-step).exp_m1()).ln()
                })
            }
        }
    }
}

/// FNV-1a of a name: a stable stream number.
pub(crate) fn stream(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(layout: &str, d: &str, ffn: &str, heads: i64, rotary: &str) -> Config {
        let text = format!(
            r#"{{"arch_layout": {layout}, "d_model": {d}, "d_intermediate": {ffn},
                "attn_cfg": {{"num_heads": {heads}, "rotary_emb_dim": {rotary}, "window_size": -1}}}}"#
        );
        Config::from_json(&text, Path::new("config.json")).expect("valid")
    }

    fn count(config: &Config) -> i64 {
        specs(config)
            .iter()
            .map(|spec| spec.shape.iter().product::<i64>())
            .sum()
    }

    /// The released configurations' parameter counts.
    #[test]
    fn counts_are_the_published_ones() {
        let one = config(
            r#"["m4",["T22"],"m4"]"#,
            "[1024,1536]",
            "[0,4096]",
            16,
            "[32,48]",
        );
        assert_eq!((count(&one) as f64 / 1e3).round(), 679_405.0);
        let two = config(
            r#"["m4",["T1m4",["T27"],"m4T1"],"m4"]"#,
            "[1024,1536,2048]",
            "[0,4096,5504]",
            16,
            "[32,48,64]",
        );
        assert_eq!((count(&two) as f64 / 1e3).round(), 1_603_492.0);
    }

    #[test]
    fn drawing_is_reproducible_and_depends_on_the_name() {
        let config = config(r#"["m1T1"]"#, "[64]", "[128]", 4, "[8]");
        let (a, b) = (
            Params::init(&config, 7, Device::Cpu),
            Params::init(&config, 7, Device::Cpu),
        );
        for ((name, x), (_, y)) in a.iter().zip(b.iter()) {
            assert_eq!(x.tensor, y.tensor, "{name}");
        }
        let other = Params::init(&config, 8, Device::Cpu);
        assert_ne!(
            a.tensor("embeddings.weight"),
            other.tensor("embeddings.weight")
        );
        let std = a.tensor("embeddings.weight").std(true).double_value(&[]);
        assert!((std - 1.0).abs() < 0.05, "{std}");
    }

    #[test]
    fn norms_biases_and_decays_are_exempt_from_weight_decay() {
        let config = config(
            r#"["m1b1",["T1r1"],"m1"]"#,
            "[64,128]",
            "[0,128]",
            4,
            "[8,8]",
        );
        for spec in specs(&config) {
            let scales = ["B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o"];
            let exempt = spec.shape.len() == 1
                || spec.name == "embeddings.weight"
                || scales.iter().any(|name| spec.name.ends_with(name));
            assert_eq!(spec.weight_decay, !exempt, "{}", spec.name);
        }
    }
}
