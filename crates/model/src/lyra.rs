//! Lyra: projected gated convolutions and one diagonal state space, about 50,000 parameters, for
//! learning fitness and other labels from sequences (arXiv 2503.16351).
//!
//! ```text
//! x0 = W_e u + b_e          u: one-hot letters or embeddings [B, L, d_input]
//! x1 = PGC(x0, 1/4)         out_norm(W_out (g ⊙ conv(a))), [a, g] = in_norm(W_in x)
//! x2 = PGC(x1, 2)
//! x3 = x2 + S4D(norm(x2))   GLU(W (GELU(K * z + D z)))
//! y  = W_o mean(x3) + b_o   over the positions of the sequence
//! ```
//!
//! Without gates and nonlinearities the map is linear in `u`, so only additive landscapes are
//! fitted. A gated convolution multiplies within its window; products of distant positions arise
//! in GELU and GLU, of what the kernels K have gathered.

mod config;
mod mixer;
mod noise;
mod output;
mod params;
pub mod parity;
mod pgc;
pub mod properties;
mod s4d;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::checkpoint::{TensorFile, write_tensors};
use crate::error::ModelError;
pub use config::{LyraConfig, Pooling};
use mixer::Mixer;
pub use noise::Noise;
use output::Output;
pub use params::{Group, LyraParams};
use pgc::{Pgc, norm};
pub use s4d::Form;
use s4d::{Kernel, convolve};

/// Unique windows have to be this many times fewer than positions to be worth while.
const SHARING: i64 = 6;

/// A Lyra network in fp32.
#[derive(Debug)]
pub struct Lyra {
    config: LyraConfig,
    params: LyraParams,
    encoder: (Tensor, Tensor),
    gated: Vec<Pgc>,
    blocks: Vec<Block>,
    end: End,
    /// The weight of properties, with the properties of each letter.
    properties: Option<(Tensor, Tensor)>,
    position: Option<Position>,
    device: Device,
}

/// From the vectors of positions to outputs.
#[derive(Debug)]
enum End {
    /// By way of one vector.
    Pooled(Output),
    /// By members that read all positions.
    Members(Mixer),
}

/// What [`Pooling::Position`] adds, code and weights `[L, D]` each.
#[derive(Debug)]
struct Position {
    code: Tensor,
    /// Not with members.
    pool: Option<Tensor>,
    /// `[L (d_input + 1), D]`: a vector for each letter, and for none, at each position.
    letters: Option<Tensor>,
}

/// A residual S4D block.
#[derive(Debug)]
struct Block {
    norm: Tensor,
    forward: Kernel,
    backward: Option<Kernel>,
    skip: Tensor,
    /// The weight as it is stored, `[2 D, D, 1]`: a view of it would lose track of the gradient
    /// when an optimizer changes it in place.
    output: (Tensor, Tensor),
}

impl Lyra {
    /// A network with freshly drawn parameters; the same seed gives the same ones everywhere.
    ///
    /// # Errors
    ///
    /// The configuration is not valid.
    pub fn new(config: &LyraConfig, seed: u64, device: Device) -> Result<Self, ModelError> {
        config.validate()?;
        let params = LyraParams::init(config, seed, device);
        Ok(Self::with_params(config.clone(), params, device))
    }

    /// Reads what [`Lyra::save`] wrote.
    ///
    /// # Errors
    ///
    /// The file is missing, damaged or of another configuration.
    pub fn load(config: &LyraConfig, path: &Path, device: Device) -> Result<Self, ModelError> {
        Self::read(config, &TensorFile::open(path)?, "", device)
    }

    fn read(
        config: &LyraConfig,
        file: &TensorFile,
        prefix: &str,
        device: Device,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let params = LyraParams::read(config, file, prefix, device)?;
        Ok(Self::with_params(config.clone(), params, device))
    }

    /// Writes the parameters as safetensors, under their published names.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let tensors: Vec<(String, Tensor)> = self
            .params
            .iter()
            .map(|(name, tensor, _)| (name.to_owned(), tensor.detach()))
            .collect();
        write_tensors(path, &tensors, &BTreeMap::new())
    }

    fn with_params(config: LyraConfig, params: LyraParams, device: Device) -> Self {
        let pair = |name: &str| {
            let get = |part: &str| params.tensor(&format!("{name}.{part}"));
            (get("weight"), get("bias"))
        };
        let kernel = |name: String| {
            let get = |part: &str| params.tensor(&format!("{name}.{part}"));
            Kernel {
                log_dt: get("log_dt"),
                log_a_real: get("log_A_real"),
                a_imag: get("A_imag"),
                c: get("C"),
            }
        };
        let block = |i: i64| {
            let prefix = params::block(i);
            let (weight, bias) = pair(&format!("{prefix}s4d.output_linear.0"));
            Block {
                norm: params.tensor(&format!("{prefix}norm.weight")),
                forward: kernel(format!("{prefix}s4d.kernel")),
                backward: config
                    .bidirectional
                    .then(|| kernel(format!("{prefix}s4d.kernel_backward"))),
                skip: params.tensor(&format!("{prefix}s4d.D")),
                output: (weight, bias),
            }
        };
        let gated = (1..=config.expansions.len()).map(|number| Pgc::new(&config, number, &params));
        Self {
            encoder: pair("encoder"),
            gated: gated.collect(),
            blocks: (0..config.depth).map(block).collect(),
            end: match config.members {
                0 => End::Pooled(Output::new(&config, &params)),
                _ => End::Members(Mixer::new(&config, &params)),
            },
            properties: config.properties.then(|| {
                let table = properties::table(config.d_input, device);
                (params.tensor("properties.weight"), table)
            }),
            position: (config.pooling == Pooling::Position).then(|| Position {
                code: params.tensor("position.weight"),
                pool: (config.members == 0).then(|| params.tensor("pool.weight")),
                letters: config.sites.then(|| params.tensor("position.letters")),
            }),
            config,
            params,
            device,
        }
    }

    /// Another handle on the same parameters, for a worker thread.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let params = self.params.shallow_clone();
        Self::with_params(self.config.clone(), params, self.device)
    }

    /// The configuration.
    pub fn config(&self) -> &LyraConfig {
        &self.config
    }

    /// The parameters.
    pub fn params(&self) -> &LyraParams {
        &self.params
    }

    /// Where the parameters lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Outputs for inputs `[B, L, d_input]`: `[B, d_output]`, or `[B, L, d_output]` without
    /// pooling. `mask` `[B, L]` is 1 at the positions of a sequence and 0 at those that fill it
    /// up on the right; without it all count. `noise` switches dropout on.
    ///
    /// # Panics
    ///
    /// With position pooling: see [`Lyra::compare`].
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, noise: Option<&Noise>) -> Tensor {
        self.forward_by(x, mask, noise, Form::Auto)
    }

    /// As [`Lyra::forward`], with S4D in the given form.
    pub fn forward_by(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        noise: Option<&Noise>,
        form: Form,
    ) -> Tensor {
        assert!(
            self.position.is_none(),
            "position pooling needs a wild type"
        );
        let mask = mask.map(|mask| mask.to_kind(Kind::Float).unsqueeze(-1));
        let x = self.local(self.encode(x), mask.as_ref());
        self.readout(&self.mix(x, noise, form), mask.as_ref(), noise)
    }

    /// As [`Lyra::forward`] with position pooling, beside the inputs of a wild type
    /// `[1, L, d_input]`.
    ///
    /// # Panics
    ///
    /// When the wild type has another length than the configuration says, or letters have vectors of
    /// their own at each position.
    pub fn compare(&self, x: &Tensor, wild_type: &Tensor, noise: Option<&Noise>) -> Tensor {
        let x = self.encode(&Tensor::cat(&[wild_type, x], 0));
        let x = match &self.position {
            None => x,
            Some(Position { code, letters, .. }) => {
                assert!(letters.is_none(), "letters of positions need letters");
                x + code
            }
        };
        self.readout(
            &self.mix(self.local(x, None), noise, Form::Auto),
            None,
            noise,
        )
    }

    /// Outputs for letters, i64 `[B, L]` with numbers below `d_input`; `d_input` itself stands
    /// for no letter, right of the end. `wild_type` `[1, L]` is for position pooling alone.
    ///
    /// Equal to [`Lyra::forward`] of the one-hot letters. What the gated convolutions make of a
    /// window is worked out once for all its occurrences in the batch, where that is less work.
    ///
    /// # Panics
    ///
    /// With position pooling, when there is no wild type or another length.
    pub fn letters(
        &self,
        letters: &Tensor,
        wild_type: Option<&Tensor>,
        noise: Option<&Noise>,
    ) -> Tensor {
        if let (End::Members(mixer), Some(outputs)) = (&self.end, self.members(letters, noise)) {
            return mixer.mean(&outputs);
        }
        let mask = letters.ne(self.config.d_input);
        let mask = (!bool::try_from(mask.all()).unwrap_or(false))
            .then(|| mask.to_kind(Kind::Float).unsqueeze(-1));
        match &self.position {
            None => {
                let x = self.mix(
                    self.local_letters(letters, mask.as_ref()),
                    noise,
                    Form::Auto,
                );
                self.readout(&x, mask.as_ref(), noise)
            }
            Some(Position { code, .. }) => {
                let wild_type = wild_type.expect("position pooling needs a wild type");
                assert_eq!(letters.size()[1], code.size()[0], "the wild type's length");
                // In one batch, so that windows are shared with the wild type.
                let both = Tensor::cat(&[wild_type, letters], 0);
                let x = self.mix(self.local_letters(&both, None), noise, Form::Auto);
                self.readout(&x, None, noise)
            }
        }
    }

    /// Outputs of each member for letters as [`Lyra::letters`] reads them: `[K, B, d_output]`, with the ranks
    /// behind the values where the configuration has them. `None` for a network without members.
    pub fn members(&self, letters: &Tensor, noise: Option<&Noise>) -> Option<Tensor> {
        let End::Members(mixer) = &self.end else {
            return None;
        };
        let places = Tensor::arange(letters.size()[1], (Kind::Int64, self.device));
        Some(mixer.forward(&self.embed(letters, &places), noise))
    }

    /// The gated convolutions.
    fn local(&self, mut x: Tensor, mask: Option<&Tensor>) -> Tensor {
        for layer in &self.gated {
            x = layer.forward(&x, mask);
        }
        x
    }

    fn encode(&self, x: &Tensor) -> Tensor {
        let weight = match &self.properties {
            None => self.encoder.0.shallow_clone(),
            Some((weight, table)) => &self.encoder.0 + weight.matmul(&table.transpose(0, 1)),
        };
        x.linear(&weight, Some(&self.encoder.1))
    }

    /// The encoder for letters `[B, L]` at `positions`, of a shape that broadcasts to that.
    fn embed(&self, letters: &Tensor, positions: &Tensor) -> Tensor {
        let (weight, bias) = &self.encoder;
        let none = Tensor::zeros([1, self.config.d_model], (Kind::Float, self.device));
        let weight = match &self.properties {
            None => weight.transpose(0, 1),
            Some((known, table)) => weight.transpose(0, 1) + table.matmul(&known.transpose(0, 1)),
        };
        let table = Tensor::cat(&[weight, none], 0) + bias;
        let x = Tensor::embedding(&table, letters, -1, false, false);
        match &self.position {
            None => x,
            Some(Position {
                code,
                letters: sites,
                ..
            }) => {
                let x = x + Tensor::embedding(code, positions, -1, false, false);
                match sites {
                    None => x,
                    Some(sites) => {
                        let places = positions * (self.config.d_input + 1) + letters;
                        x + Tensor::embedding(sites, &places, -1, false, false)
                    }
                }
            }
        }
    }

    /// Encoder and gated convolutions for letters, by unique windows where they are few.
    fn local_letters(&self, letters: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let (left, right) = self.config.reach();
        let width = left + right + 1;
        let (batch, length) = letters.size2().expect("[B, L]");
        let integer = (Kind::Int64, self.device);
        let positions = Tensor::arange(length, integer);
        let base = self.config.d_input + 1;
        let places = if self.position.is_some() { length } else { 1 };
        if places as f64 * (base as f64).powi(width as i32) < 9e18 {
            let windows = letters
                .pad([left, right], "constant", self.config.d_input as f64)
                .unfold(1, width, 1);
            let digits: Vec<i64> = (0..width).map(|i| base.pow(i as u32)).collect();
            let digits = Tensor::from_slice(&digits).to_device(self.device);
            let over = [-1i64].as_slice();
            let mut codes = (&windows * &digits).sum_dim_intlist(over, false, Kind::Int64);
            if self.position.is_some() {
                codes += &positions * base.pow(width as u32);
            }
            let (unique, inverse, _) = codes.internal_unique2(true, true, false);
            if unique.size()[0] * SHARING <= batch * length {
                let unique = unique.unsqueeze(-1);
                let letters = unique.divide_tensor_mode(&digits, "floor").remainder(base);
                let place = unique.divide_scalar_mode(base.pow(width as u32), "floor");
                let around = place + Tensor::arange(width, integer) - left;
                let mask = letters.ne(self.config.d_input);
                let mut mask = mask.to_kind(Kind::Float).unsqueeze(-1);
                let mut x = self.embed(&letters, &around.clamp(0, length - 1));
                // Each layer leaves the positions that it knows all about: at last one, the middle.
                let (before, _) = self.config.taps();
                for layer in &self.gated {
                    x = layer.inner(&x, &mask);
                    mask = mask.narrow(1, before, x.size()[1]);
                }
                return x
                    .squeeze_dim(1)
                    .index_select(0, &inverse.reshape([-1]))
                    .reshape([batch, length, self.config.d_model]);
            }
        }
        self.local(self.embed(letters, &positions), mask)
    }

    /// The residual S4D blocks.
    fn mix(&self, mut x: Tensor, noise: Option<&Noise>, form: Form) -> Tensor {
        for block in &self.blocks {
            x = &x + self.block(block, &x, noise, form);
        }
        x
    }

    fn block(&self, block: &Block, x: &Tensor, noise: Option<&Noise>, form: Form) -> Tensor {
        let nonlinear = self.config.nonlinear;
        let u = if nonlinear {
            norm(x, &block.norm)
        } else {
            x * &block.norm
        };
        let y = convolve(&u, &block.forward, block.backward.as_ref(), form) + u * &block.skip;
        let y = if nonlinear { y.gelu("none") } else { y };
        let y = self
            .drop(y, noise)
            .linear(&block.output.0.squeeze_dim(-1), Some(&block.output.1));
        let y = if nonlinear {
            y.glu(-1)
        } else {
            y.narrow(-1, 0, self.config.d_model)
        };
        self.drop(y, noise)
    }

    /// Leaves out whole channels, the same at every position.
    fn drop(&self, x: Tensor, noise: Option<&Noise>) -> Tensor {
        match noise {
            Some(noise) if self.config.dropout > 0.0 => {
                let shape = [x.size()[0], 1, x.size()[2]];
                x * noise.mask(&shape, self.config.dropout, self.device)
            }
            _ => x,
        }
    }

    /// Pooling and decoder; with position pooling the first row is the wild type.
    fn readout(&self, x: &Tensor, mask: Option<&Tensor>, noise: Option<&Noise>) -> Tensor {
        let over = [1i64].as_slice();
        let sum = |x: Tensor| x.sum_dim_intlist(over, false, Kind::Float);
        let pooled = match (self.config.pooling, mask, &self.position) {
            (Pooling::None, ..) => x.shallow_clone(),
            (Pooling::Mean, None, _) => x.mean_dim(over, false, Kind::Float),
            (Pooling::Mean, Some(mask), _) => {
                let count = mask
                    .sum_dim_intlist(over, false, Kind::Float)
                    .clamp_min(1.0);
                sum(x * mask) / count
            }
            (Pooling::Position, _, position) => {
                let pool = position
                    .as_ref()
                    .and_then(|position| position.pool.as_ref());
                let pool = pool.expect("position pooling");
                let pooled = sum(x * pool);
                pooled.narrow(0, 1, x.size()[0] - 1) - pooled.narrow(0, 0, 1)
            }
        };
        match &self.end {
            End::Pooled(output) => output.forward(pooled, noise),
            End::Members(_) => unreachable!("members pool nothing"),
        }
    }
}
