//! Projected gated convolutions.

use tch::Tensor;

use super::config::LyraConfig;
use super::params::LyraParams;

/// Added to the mean square before the root.
const EPS: f64 = 1e-8;

/// `x / sqrt(mean(x²) + 1e-8) * weight` over the last dimension.
pub(super) fn norm(x: &Tensor, weight: &Tensor) -> Tensor {
    x.rms_norm(weight.size(), Some(weight), EPS)
}

/// `out_norm(W_out (g ⊙ conv(a)))` with `[a, g] = in_norm(W_in x)`: the gate is the raw linear
/// half, the convolution depthwise.
#[derive(Debug)]
pub(super) struct Pgc {
    in_proj: (Tensor, Tensor),
    in_norm: Tensor,
    conv: (Tensor, Tensor),
    out_proj: (Tensor, Tensor),
    out_norm: Tensor,
    /// Positions to the left and to the right that count.
    reach: (i64, i64),
    nonlinear: bool,
}

impl Pgc {
    /// The layer `pgc{number}`.
    pub fn new(config: &LyraConfig, number: usize, params: &LyraParams) -> Self {
        let get = |name: &str| params.tensor(&format!("pgc{number}.{name}"));
        let pair = |name: &str| (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        Self {
            in_proj: pair("in_proj"),
            in_norm: get("in_norm.weight"),
            conv: pair("conv"),
            out_proj: pair("out_proj"),
            out_norm: get("out_norm.weight"),
            reach: config.taps(),
            nonlinear: config.nonlinear,
        }
    }

    /// `[B, L, D]` to the same; positions where `mask` `[B, L, 1]` is 0 count as beyond the end.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Tensor {
        self.layer(x, mask, true)
    }

    /// As [`Pgc::forward`], but only for the positions whose whole reach is in `x`.
    pub fn inner(&self, x: &Tensor, mask: &Tensor) -> Tensor {
        self.layer(x, Some(mask), false)
    }

    fn layer(&self, x: &Tensor, mask: Option<&Tensor>, fill: bool) -> Tensor {
        let z = x.linear(&self.in_proj.0, Some(&self.in_proj.1));
        let z = if self.nonlinear {
            norm(&z, &self.in_norm)
        } else {
            z * &self.in_norm
        };
        let halves = z.chunk(2, -1);
        let (a, gate) = (&halves[0], &halves[1]);
        let h = match mask {
            None => self.convolve(a, fill),
            Some(mask) => self.convolve(&(a * mask), fill),
        };
        let gated = match (self.nonlinear, fill) {
            (false, _) => h,
            (true, true) => gate * h,
            (true, false) => gate.narrow(1, self.reach.0, h.size()[1]) * h,
        };
        let out = gated.linear(&self.out_proj.0, Some(&self.out_proj.1));
        if self.nonlinear {
            norm(&out, &self.out_norm)
        } else {
            out * &self.out_norm
        }
    }

    fn convolve(&self, a: &Tensor, fill: bool) -> Tensor {
        let (weight, bias) = &self.conv;
        let channels = weight.size()[0];
        let mut a = a.transpose(1, 2);
        if fill {
            a = a.constant_pad_nd([self.reach.0, self.reach.1]);
        }
        a.conv1d(weight, Some(bias), 1, 0, 1, channels)
            .transpose(1, 2)
    }
}
