//! Several networks in one, on the letters of few sites.

use tch::{Kind, Tensor};

use super::config::LyraConfig;
use super::noise::Noise;
use super::output::Curve;
use super::params::{LyraParams, mixer};
use super::pgc::norm;

/// Layers behind the first.
pub(super) const LAYERS: i64 = 2;

/// Share of a standard deviation by which ranks move values: so little that they order only what lies close
/// together. A squared error cannot tell many values near zero apart; their ranks can.
const RANKS: f64 = 0.02;

/// A linear map that members share but for a factor of each input, a factor of each output and a bias:
/// `W (x ⊙ r_k) ⊙ s_k + b_k` (BatchEnsemble, arXiv 2002.06715).
#[derive(Debug)]
struct Shared {
    weight: Tensor,
    read: Tensor,
    write: Tensor,
    bias: Tensor,
}

impl Shared {
    fn new(name: &str, params: &LyraParams) -> Self {
        let get = |part: &str| params.tensor(&format!("{name}.{part}"));
        Self {
            weight: get("weight"),
            read: get("read"),
            write: get("write"),
            bias: get("bias"),
        }
    }

    /// `[B, K or 1, input]` to `[B, K, output]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        (x * &self.read).linear(&self.weight, None::<Tensor>) * &self.write + &self.bias
    }
}

/// K members read the vectors of all sites at once, `x0 = W_0 [e_1 ... e_L]`, pass gated layers
/// `x + W (GELU(a) ⊙ b)` with `[a, b] = V norm(x)`, and end in an output of their own behind one curve. Each
/// is trained on its own error; what is predicted is their mean (as in TabM, arXiv 2410.24210). Beside a value each
/// may learn its rank.
#[derive(Debug)]
pub(super) struct Mixer {
    input: Shared,
    layers: Vec<(Tensor, Shared, Shared)>,
    /// `[K, D, O]` and `[K, O]`.
    decoder: (Tensor, Tensor),
    curve: Option<Curve>,
    outputs: i64,
    dropout: f64,
}

impl Mixer {
    pub fn new(config: &LyraConfig, params: &LyraParams) -> Self {
        let layer = |i| {
            let prefix = mixer(i);
            (
                params.tensor(&format!("{prefix}.norm.weight")),
                Shared::new(&format!("{prefix}.in"), params),
                Shared::new(&format!("{prefix}.out"), params),
            )
        };
        Self {
            input: Shared::new("mixer.in", params),
            layers: (0..LAYERS).map(layer).collect(),
            decoder: (
                params.tensor("mixer.decoder.weight"),
                params.tensor("mixer.decoder.bias"),
            ),
            curve: config.curve.then(|| Curve::new(params)),
            outputs: config.d_output,
            dropout: config.dropout,
        }
    }

    /// Vectors of sites `[B, L, D]` to outputs `[K, B, O]`, ranks behind the values where there are any.
    pub fn forward(&self, x: &Tensor, noise: Option<&Noise>) -> Tensor {
        let mut x = self.input.forward(&x.flatten(1, 2).unsqueeze(1));
        for (weight, first, second) in &self.layers {
            let halves = first.forward(&norm(&x, weight)).chunk(2, -1);
            let mut gated = halves[0].gelu("none") * &halves[1];
            if let Some(noise) = noise.filter(|_| self.dropout > 0.0) {
                gated *= noise.mask(&gated.size(), self.dropout, gated.device());
            }
            // Not in place: the norm's gradient needs what it read.
            x = &x + second.forward(&gated);
        }
        let (weight, bias) = &self.decoder;
        let y = x.transpose(0, 1).matmul(weight) + bias.unsqueeze(1);
        let Some(curve) = &self.curve else { return y };
        let ranks = y.narrow(-1, self.outputs, y.size()[2] - self.outputs);
        Tensor::cat(&[curve.forward(&y.narrow(-1, 0, self.outputs)), ranks], -1)
    }

    /// What members agree on, `[B, d_output]`, of outputs `[K, B, O]`: the values, and [`RANKS`] of the ranks
    /// where there are any.
    pub fn mean(&self, outputs: &Tensor) -> Tensor {
        let mean = outputs.mean_dim([0i64].as_slice(), false, Kind::Float);
        let values = mean.narrow(-1, 0, self.outputs);
        match mean.size()[1] > self.outputs {
            true => values + mean.narrow(-1, self.outputs, self.outputs) * RANKS,
            false => values,
        }
    }
}
