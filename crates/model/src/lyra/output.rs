//! From one vector to the outputs.

use tch::{Kind, Tensor};

use super::config::LyraConfig;
use super::noise::Noise;
use super::params::LyraParams;

/// The published network has the decoder alone. Before it there may be a gated layer,
/// `x + W (GELU(a) ⊙ b)` with `[a, b] = V x + c`, and behind it a curve for each output,
/// `s y + Σ_k h_k tanh(r_k y + t_k)` with s, h and r above zero: what adds up before it need not add
/// up in the measurement.
#[derive(Debug)]
pub(super) struct Output {
    decoder: (Tensor, Tensor),
    gated: Option<[Tensor; 3]>,
    curve: Option<Curve>,
    dropout: f64,
}

impl Output {
    pub fn new(config: &LyraConfig, params: &LyraParams) -> Self {
        let get = |name: &str| params.tensor(name);
        Self {
            decoder: (get("decoder.weight"), get("decoder.bias")),
            gated: (config.readout > 0).then(|| {
                ["in.weight", "in.bias", "out.weight"].map(|p| get(&format!("readout.{p}")))
            }),
            curve: config.curve.then(|| Curve::new(params)),
            dropout: config.dropout,
        }
    }

    /// `[..., D]` to `[..., d_output]`.
    pub fn forward(&self, x: Tensor, noise: Option<&Noise>) -> Tensor {
        let x = match &self.gated {
            None => x,
            Some([weight, bias, out]) => {
                let halves = x.linear(weight, Some(bias)).chunk(2, -1);
                let mut gated = halves[0].gelu("none") * &halves[1];
                if let Some(noise) = noise.filter(|_| self.dropout > 0.0) {
                    gated *= noise.mask(&gated.size(), self.dropout, gated.device());
                }
                x + gated.linear(out, None::<Tensor>)
            }
        };
        let y = x.linear(&self.decoder.0, Some(&self.decoder.1));
        match &self.curve {
            None => y,
            Some(curve) => curve.forward(&y),
        }
    }
}

/// A monotone curve for each output.
#[derive(Debug)]
pub(super) struct Curve([Tensor; 4]);

impl Curve {
    pub fn new(params: &LyraParams) -> Self {
        Self(["heights", "rates", "shifts", "slope"].map(|p| params.tensor(&format!("curve.{p}"))))
    }

    /// `[..., d_output]` to the same.
    pub fn forward(&self, y: &Tensor) -> Tensor {
        let [heights, rates, shifts, slope] = &self.0;
        let steps = (y.unsqueeze(-2) * rates.softplus() + shifts).tanh();
        let over = [-2i64].as_slice();
        let curve = (steps * heights.softplus()).sum_dim_intlist(over, false, Kind::Float);
        slope.softplus() * y + curve
    }
}
