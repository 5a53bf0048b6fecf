//! Parameters of a Lyra network: names, shapes, initial values, groups.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::distributions::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::config::{LyraConfig, Pooling};
use super::mixer::LAYERS;
use super::properties::PROPERTIES;
use crate::checkpoint::TensorFile;
use crate::error::ModelError;
use crate::params::stream;

/// What the optimizer does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Weights: the full rate, with weight decay.
    Weight,
    /// Norms, biases, skips: the full rate, no weight decay.
    Plain,
    /// Step size and poles of S4D: a lower rate, no weight decay.
    Ssm,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy)]
enum Init {
    Constant(f64),
    /// Uniform within 1/sqrt(fan-in).
    FanIn(i64),
    Normal(f64),
    /// ln U(1e-3, 1e-1), log-uniform.
    StepSize,
    /// π n for the n-th state (S4D-Lin).
    Frequencies,
    /// From -3 to 3 by row.
    Shifts,
    /// 1 or -1.
    Signs,
}

struct Spec {
    name: String,
    shape: Vec<i64>,
    group: Group,
    init: Init,
}

/// All parameters by their published names: fp32 leaves that require gradients.
#[derive(Debug)]
pub struct LyraParams(BTreeMap<String, (Tensor, Group)>);

impl LyraParams {
    /// Draws initial values; each tensor has a stream of its own, keyed by seed and name.
    pub(super) fn init(config: &LyraConfig, seed: u64, device: Device) -> Self {
        Self::build(config, |spec| Ok(spec.draw(seed).to_device(device)))
            .expect("drawing values cannot fail")
    }

    /// Takes the tensors from `file`, where their names have `prefix`.
    pub(super) fn read(
        config: &LyraConfig,
        file: &TensorFile,
        prefix: &str,
        device: Device,
    ) -> Result<Self, ModelError> {
        let problem = |name: &str, problem: String| ModelError::Tensor {
            path: file.path().to_owned(),
            name: name.to_owned(),
            problem,
        };
        let params = Self::build(config, |spec| {
            let name = format!("{prefix}{}", spec.name);
            let tensor = file.tensor(&name)?;
            if tensor.size() != spec.shape {
                let text = format!(
                    "shape {:?}, but the configuration says {:?}",
                    tensor.size(),
                    spec.shape
                );
                return Err(problem(&name, text));
            }
            Ok(tensor.to_kind(Kind::Float).to_device(device))
        })?;
        let unknown = file.names().into_iter().find(|name| {
            name.strip_prefix(prefix)
                .is_some_and(|name| !params.0.contains_key(name))
        });
        match unknown {
            Some(name) => Err(problem(&name, "unknown to the configuration".into())),
            None => Ok(params),
        }
    }

    fn build(
        config: &LyraConfig,
        mut find: impl FnMut(&Spec) -> Result<Tensor, ModelError>,
    ) -> Result<Self, ModelError> {
        let mut params = BTreeMap::new();
        for spec in specs(config) {
            let tensor = find(&spec)?.set_requires_grad(true);
            params.insert(spec.name, (tensor, spec.group));
        }
        Ok(Self(params))
    }

    /// Parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor, Group)> {
        self.0
            .iter()
            .map(|(name, (tensor, group))| (name.as_str(), tensor, *group))
    }

    pub(super) fn shallow_clone(&self) -> Self {
        let clone = |(name, (tensor, group)): (&String, &(Tensor, Group))| {
            (name.clone(), (tensor.shallow_clone(), *group))
        };
        Self(self.0.iter().map(clone).collect())
    }

    /// Number of values in all tensors.
    pub fn count(&self) -> usize {
        self.0.values().map(|(tensor, _)| tensor.numel()).sum()
    }

    /// A handle on the tensor `name`, which the configuration is known to have.
    pub(super) fn tensor(&self, name: &str) -> Tensor {
        match self.0.get(name) {
            Some((tensor, _)) => tensor.shallow_clone(),
            None => unreachable!("no parameter '{name}' follows from the configuration"),
        }
    }
}

/// Steps that a curve is made of.
const CURVE: i64 = 8;

/// Prefix of the `i`-th residual block; that of the first is the published one.
pub(super) fn block(i: i64) -> String {
    match i {
        0 => String::new(),
        i => format!("blocks.{i}."),
    }
}

/// Prefix of the `i`-th layer of [`Mixer`](super::mixer::Mixer).
pub(super) fn mixer(i: i64) -> String {
    format!("mixer.{i}")
}

/// What members have in place of gated convolutions, state spaces and readout.
fn members(config: &LyraConfig, push: &mut impl FnMut(String, &[i64], Group, Init)) {
    use Group::{Plain, Weight};
    let (d, members) = (config.d_model, config.members);
    let outputs = config.d_output * if config.ranks { 2 } else { 1 };
    let (one, zero) = (Init::Constant(1.0), Init::Constant(0.0));
    let mut shared = |name: String, output: i64, input: i64, read: Init| {
        let weight = format!("{name}.weight");
        push(weight, &[output, input], Weight, Init::FanIn(input));
        push(format!("{name}.read"), &[members, input], Plain, read);
        push(format!("{name}.write"), &[members, output], Plain, one);
        push(format!("{name}.bias"), &[members, output], Plain, zero);
    };
    // Signs alone make members differ at first.
    let sites = config.length.unwrap_or(0) * d;
    shared("mixer.in".into(), d, sites, Init::Signs);
    for i in 0..LAYERS {
        shared(format!("{}.in", mixer(i)), 4 * d, d, one);
        shared(format!("{}.out", mixer(i)), d, 2 * d, one);
    }
    for i in 0..LAYERS {
        push(format!("{}.norm.weight", mixer(i)), &[d], Plain, one);
    }
    let (weight, bias) = ("mixer.decoder.weight", "mixer.decoder.bias");
    push(
        weight.into(),
        &[members, d, outputs],
        Weight,
        Init::FanIn(d),
    );
    push(bias.into(), &[members, outputs], Plain, zero);
}

fn specs(config: &LyraConfig) -> Vec<Spec> {
    use Group::{Plain, Ssm, Weight};
    let mut specs = Vec::new();
    let mut push = |name: String, shape: &[i64], group, init| {
        specs.push(Spec {
            name,
            shape: shape.to_vec(),
            group,
            init,
        });
    };
    let (d, half) = (config.d_model, config.d_state / 2);
    let one = Init::Constant(1.0);
    let mut linear = |name: &str, output: i64, input: i64, tail: &[i64]| {
        let init = Init::FanIn(input);
        let shape = [&[output, input], tail].concat();
        push(format!("{name}.weight"), &shape, Weight, init);
        push(format!("{name}.bias"), &[output], Plain, init);
    };
    linear("encoder", d, config.d_input, &[]);
    for (i, &expansion) in config.expansions.iter().enumerate() {
        let inner = config.inner(expansion);
        linear(&format!("pgc{}.in_proj", i + 1), 2 * inner, d, &[]);
        linear(&format!("pgc{}.out_proj", i + 1), d, inner, &[]);
    }
    for i in 0..config.depth {
        linear(&format!("{}s4d.output_linear.0", block(i)), 2 * d, d, &[1]);
    }
    if config.members == 0 {
        linear("decoder", config.d_output, d, &[]);
    }
    for (i, &expansion) in config.expansions.iter().enumerate() {
        let (inner, pgc) = (config.inner(expansion), format!("pgc{}", i + 1));
        let taps = Init::FanIn(config.kernel_size);
        push(format!("{pgc}.in_norm.weight"), &[2 * inner], Plain, one);
        push(format!("{pgc}.out_norm.weight"), &[d], Plain, one);
        let shape = [inner, 1, config.kernel_size];
        push(format!("{pgc}.conv.weight"), &shape, Weight, taps);
        push(format!("{pgc}.conv.bias"), &[inner], Plain, taps);
    }
    for i in 0..config.depth {
        let prefix = block(i);
        push(format!("{prefix}norm.weight"), &[d], Plain, one);
        push(format!("{prefix}s4d.D"), &[d], Plain, Init::Normal(1.0));
        let directions: &[&str] = if config.bidirectional {
            &["kernel", "kernel_backward"]
        } else {
            &["kernel"]
        };
        for direction in directions {
            let kernel = format!("{prefix}s4d.{direction}");
            push(format!("{kernel}.log_dt"), &[d], Ssm, Init::StepSize);
            let real = Init::Constant(0.5f64.ln());
            push(format!("{kernel}.log_A_real"), &[d, half], Ssm, real);
            let imaginary = Init::Frequencies;
            push(format!("{kernel}.A_imag"), &[d, half], Ssm, imaginary);
            // A complex normal of variance 1 has 1/2 in each part.
            let normal = Init::Normal(0.5f64.sqrt());
            push(format!("{kernel}.C"), &[d, half, 2], Plain, normal);
        }
    }
    if config.properties {
        let init = Init::FanIn(PROPERTIES);
        push("properties.weight".into(), &[d, PROPERTIES], Weight, init);
    }
    if let (Pooling::Position, Some(length)) = (config.pooling, config.length) {
        let (code, small) = (Init::Normal(0.3), Init::Constant(0.25));
        push("position.weight".into(), &[length, d], Weight, code);
        if config.members == 0 {
            push("pool.weight".into(), &[length, d], Weight, small);
        }
        if config.sites {
            let shape = [length * (config.d_input + 1), d];
            push("position.letters".into(), &shape, Weight, Init::Normal(0.1));
        }
    }
    if config.members > 0 {
        members(config, &mut push);
    }
    if config.readout > 0 {
        let (hidden, init) = (config.readout, Init::FanIn(d));
        push("readout.in.weight".into(), &[2 * hidden, d], Weight, init);
        push("readout.in.bias".into(), &[2 * hidden], Plain, init);
        push(
            "readout.out.weight".into(),
            &[d, hidden],
            Weight,
            Init::FanIn(hidden),
        );
    }
    if config.curve {
        let shape = [CURVE, config.d_output];
        push("curve.heights".into(), &shape, Plain, Init::Constant(-2.0));
        push("curve.rates".into(), &shape, Plain, Init::Constant(0.5));
        push("curve.shifts".into(), &shape, Plain, Init::Shifts);
        push(
            "curve.slope".into(),
            &[config.d_output],
            Plain,
            Init::Constant(0.0),
        );
    }
    specs
}

impl Spec {
    fn draw(&self, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ stream(&self.name));
        let count = self.shape.iter().product::<i64>() as usize;
        let columns = *self.shape.last().unwrap_or(&1) as usize;
        let value = |i: usize| -> f64 {
            match self.init {
                Init::Constant(value) => value,
                Init::FanIn(fan) => {
                    let bound = (fan as f64).powf(-0.5);
                    Uniform::new(-bound, bound).sample(&mut rng)
                }
                Init::Normal(std) => {
                    let z: f64 = rand_distr::StandardNormal.sample(&mut rng);
                    std * z
                }
                Init::StepSize => Uniform::new(1e-3f64.ln(), 1e-1f64.ln()).sample(&mut rng),
                Init::Signs => f64::from(2 * Uniform::new(0, 2).sample(&mut rng) - 1),
                Init::Shifts => 6.0 * (i / columns) as f64 / (CURVE - 1) as f64 - 3.0,
                Init::Frequencies => std::f64::consts::PI * (i % columns) as f64,
            }
        };
        let values: Vec<f32> = (0..count).map(value).map(|value| value as f32).collect();
        Tensor::from_slice(&values).reshape(&self.shape)
    }
}
