//! The Mamba-2 block (Dao and Gu 2024): in-projection, causal convolution,
//! selective scan, gated norm, out-projection.

use cistron_kernels::conv;
use cistron_kernels::norm::gated_rms_norm;
use cistron_kernels::scan::{self, Scan};
use cistron_kernels::{Layout, Packed, linear, mamba2, ssm, step};
use tch::{Device, Kind, Tensor};

use super::fallback;
use crate::config::Config;
use crate::params::Params;
use crate::state::{LayerState, Mamba2State, Rows};

/// A Mamba-2 mixer; parameter names are upstream's.
#[derive(Debug)]
pub struct Mamba2 {
    in_proj: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    d: Tensor,
    norm: Tensor,
    out_proj: Tensor,
    inner: i64,
    states: i64,
    heads: i64,
    head_dim: i64,
}

impl Mamba2State {
    fn before(&self) -> mamba2::Before<'_> {
        mamba2::Before {
            tail: &self.conv,
            state: &self.ssm,
        }
    }
}

/// Inputs of the scan: a padded batch, or one token.
struct Projected {
    x: Tensor,
    b: Tensor,
    c: Tensor,
    delta: Tensor,
    log_decay: Tensor,
}

impl Mamba2 {
    pub(crate) fn new(config: &Config, stage: usize, prefix: &str, params: &Params) -> Self {
        let get = |name: &str| params.tensor(&format!("{prefix}{name}"));
        let ssm = &config.ssm_cfg;
        let inner = config.d_model[stage] * ssm.expand.at(stage);
        let head_dim = ssm.headdim.at(stage);
        Self {
            in_proj: get("in_proj.weight"),
            conv_weight: get("conv1d.weight"),
            conv_bias: get("conv1d.bias"),
            dt_bias: get("dt_bias"),
            a_log: get("A_log"),
            d: get("D"),
            norm: get("norm.weight"),
            out_proj: get("out_proj.weight"),
            inner,
            states: ssm.d_state.at(stage),
            heads: inner / head_dim,
            head_dim,
        }
    }

    fn conv_channels(&self) -> i64 {
        self.inner + 2 * self.states
    }

    /// What the parallel form starts with, and the rows of zeros that it wants behind it: rows
    /// of a product start at multiples of 16 bytes, or matrix units fall back to narrow loads
    /// and kernels to copies.
    pub(crate) fn projection(&self, kind: Kind, device: Device) -> (&Tensor, i64) {
        let rows = self.inner + self.conv_channels() + self.heads;
        let aligned = device.is_cuda() && kind == Kind::BFloat16;
        (&self.in_proj, if aligned { (8 - rows % 8) % 8 } else { 0 })
    }

    /// The product that the parallel form starts with.
    fn project(&self, u: &Tensor) -> Tensor {
        match self.projection(u.kind(), u.device()) {
            (weight, 0) => linear(u, weight),
            (weight, spare) => {
                let weight = weight.to_kind(u.kind());
                linear(u, &weight.constant_pad_nd([0, 0, 0, spare]))
            }
        }
    }

    /// Splits `[z | x B C | Δ]`, and what is spare, along the last dimension.
    fn split(&self, projected: &Tensor) -> (Tensor, Tensor, Tensor) {
        // Taken apart at once: the gradient is put together at once, too.
        let mut widths = vec![self.inner, self.conv_channels(), self.heads];
        let used: i64 = widths.iter().sum();
        let spare = projected.size().last().map_or(0, |width| width - used);
        if spare > 0 {
            widths.push(spare);
        }
        let mut parts = projected.split_with_sizes(widths.as_slice(), -1);
        parts.truncate(3);
        let [z, xbc, dt] = parts.try_into().expect("three widths make three parts");
        (z, xbc, dt)
    }

    /// After the convolution: `xbc` `[…, inner + 2 states]`, `dt` `[…, heads]` before its softplus.
    fn scan_inputs(&self, xbc: &Tensor, dt: &Tensor) -> Projected {
        let mut shape = xbc.size();
        shape.pop();
        shape.extend([self.heads, self.head_dim]);
        let delta = (dt.to_kind(Kind::Float) + &self.dt_bias).softplus();
        let log_decay = -(&delta * self.a_log.exp());
        // The plain scan computes in fp32 whatever came in.
        let widths = [self.inner, self.states, self.states];
        let parts = xbc
            .to_kind(Kind::Float)
            .split_with_sizes(widths.as_slice(), -1);
        let [x, b, c] = parts.try_into().expect("three widths make three parts");
        Projected {
            x: x.reshape(&shape),
            b,
            c,
            delta,
            log_decay,
        }
    }

    /// Adds the skip, gates, normalises and projects: `y` `[…, heads, head_dim]`.
    fn finish(&self, y: &Tensor, x: &Tensor, z: &Tensor) -> Tensor {
        let y = (y + x * self.d.unsqueeze(-1)).reshape(z.size());
        let normed = gated_rms_norm(&y, z, &self.norm).to_kind(z.kind());
        linear(&normed, &self.out_proj)
    }

    pub(crate) fn forward(
        &self,
        u: &Packed,
        initial: Option<&Mamba2State>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        let block = self.block();
        if block.supported_on_cpu(&u.values, &self.in_proj) {
            let before = initial.map(Mamba2State::before);
            let (out, after) = block.run_on_cpu(&u.values, &self.in_proj, &u.layout, before, keep);
            let state = after.map(|(conv, ssm)| LayerState::Mamba2(Mamba2State { conv, ssm }));
            return (out, state);
        }
        self.forward_projected(&u.layout, &self.project(&u.values), initial, keep)
    }

    /// As `forward`, from the product of [`Mamba2::projection`].
    pub(crate) fn forward_projected(
        &self,
        layout: &Layout,
        projected: &Tensor,
        initial: Option<&Mamba2State>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        let tail = initial.map(|state| &state.conv);
        let taps = self.conv_weight.size()[2];
        let block = self.block();
        if block.supported(projected) {
            let before = initial.map(Mamba2State::before);
            let (out, last) = block.run(projected, layout, before, keep);
            let state = last.map(|ssm| {
                let xbc = projected.narrow(-1, self.inner, self.conv_channels());
                let conv = conv::packed_tail(&xbc, tail, layout, taps);
                LayerState::Mamba2(Mamba2State { conv, ssm })
            });
            return (out, state);
        }
        let (z, xbc, dt) = self.split(projected);
        let by_head = [layout.total(), self.heads, 1, self.head_dim];
        if ssm::supported(
            &xbc.narrow(-1, 0, self.inner).reshape(by_head),
            self.states,
            None,
        ) {
            return self.forward_packed(layout, &z, &xbc, &dt, initial, keep);
        }
        let size = [self.head_dim, self.states, 1];
        fallback::warn("Mamba-2", xbc.device(), xbc.kind(), size);
        let (xbc, extended) =
            conv::causal_conv1d_silu(&layout.pad(&xbc), &self.conv_weight, &self.conv_bias, tail);
        let mut inputs = self.scan_inputs(&xbc, &layout.pad(&dt));
        if !layout.is_uniform() {
            // Padding neither decays the state nor adds to it.
            let valid = layout.valid().unsqueeze(-1).to_kind(Kind::Float);
            inputs.delta = &inputs.delta * &valid;
            inputs.log_decay = &inputs.log_decay * &valid;
        }
        let Projected {
            x,
            b,
            c,
            delta,
            log_decay,
        } = &inputs;
        let scan = Scan {
            log_decay,
            weight: delta,
            x,
            b,
            c,
        };
        let (y, last) = scan.run(initial.map(|state| &state.ssm));
        let out = self.finish(&layout.unpad(&y), &layout.unpad(x), &z);
        let state = keep.then(|| {
            let conv = conv::tail(&extended, layout, taps);
            LayerState::Mamba2(Mamba2State { conv, ssm: last })
        });
        (out, state)
    }

    /// As `forward_projected`, through the single kernels for packed sequences.
    fn forward_packed(
        &self,
        layout: &Layout,
        z: &Tensor,
        xbc: &Tensor,
        dt: &Tensor,
        initial: Option<&Mamba2State>,
        keep: bool,
    ) -> (Tensor, Option<LayerState>) {
        let tail = initial.map(|state| &state.conv);
        let mixed = conv::packed(xbc, &self.conv_weight, &self.conv_bias, tail, layout);
        let delta = (dt.to_kind(Kind::Float) + &self.dt_bias).softplus();
        let log_decay = -(&delta * self.a_log.exp());
        let widths = [self.inner, self.states, self.states];
        let parts = mixed.split_with_sizes(widths.as_slice(), -1);
        let [x, b, c] = parts.try_into().expect("three widths make three parts");
        let shared = [layout.total(), 1, 1, self.states];
        let scan = ssm::Scan {
            x: &x.view([layout.total(), self.heads, 1, self.head_dim]),
            b: &b.view(shared),
            c: &c.view(shared),
            turn: None,
            log_decay: &log_decay,
            weight: &delta,
            gamma: &delta,
            skip: Some(&self.d),
            initial: initial.map(|state| &state.ssm),
        };
        let (y, last) = scan.run(layout, keep);
        let normed = gated_rms_norm(&y.reshape(z.size()), z, &self.norm).to_kind(z.kind());
        let state = last.map(|ssm| {
            let conv = conv::packed_tail(xbc, tail, layout, self.conv_weight.size()[2]);
            LayerState::Mamba2(Mamba2State { conv, ssm })
        });
        (linear(&normed, &self.out_proj), state)
    }

    /// The weights behind the in-projection.
    fn block(&self) -> mamba2::Block<'_> {
        mamba2::Block {
            conv_weight: &self.conv_weight,
            conv_bias: &self.conv_bias,
            dt_bias: &self.dt_bias,
            a_log: &self.a_log,
            d: &self.d,
            norm: &self.norm,
            out_proj: &self.out_proj,
            head_dim: self.head_dim,
            states: self.states,
        }
    }

    pub(crate) fn step(&self, u: &Tensor, rows: &Rows, state: &mut Mamba2State) -> Tensor {
        let (z, xbc, dt) = self.split(&self.project(u));
        let tail = rows.take(&state.conv);
        let (xbc, tail) = conv::step(&xbc, &self.conv_weight, &self.conv_bias, &tail);
        rows.put(&mut state.conv, tail);
        let Projected {
            x,
            b,
            c,
            delta,
            log_decay,
        } = self.scan_inputs(&xbc, &dt);
        let (y, next) = scan::step(&log_decay, &delta, &x, &b, &c, &rows.take(&state.ssm));
        rows.put(&mut state.ssm, next);
        self.finish(&y, &x, &z)
    }

    pub(crate) fn decode(&self, u: &Tensor, cache: &mut Mamba2State, mask: &Tensor) -> Tensor {
        let projected = linear(u, &self.in_proj);
        let weights = step::Mamba2 {
            conv_weight: &self.conv_weight,
            conv_bias: &self.conv_bias,
            dt_bias: &self.dt_bias,
            a_log: &self.a_log,
            d: &self.d,
            head_dim: self.head_dim,
            states: self.states,
            groups: 1,
        };
        let rows = step::Rows {
            mask: Some(mask),
            ..step::Rows::default()
        };
        let y = step::mamba2(&projected, &weights, &mut cache.conv, &mut cache.ssm, rows);
        let z = projected.narrow(-1, 0, self.inner);
        linear(&gated_rms_norm(&y, &z, &self.norm), &self.out_proj)
    }

    pub(crate) fn empty_state(&self, sequences: i64, options: (Kind, Device)) -> LayerState {
        let taps = self.conv_weight.size()[2];
        let ssm = [sequences, self.heads, self.head_dim, self.states];
        LayerState::Mamba2(Mamba2State {
            conv: Tensor::zeros([sequences, taps - 1, self.conv_channels()], options),
            ssm: Tensor::zeros(ssm, (Kind::Float, options.1)),
        })
    }

    fn single(&self, u: &Tensor) -> (Tensor, Projected) {
        let (z, xbc, dt) = self.split(&self.project(&u.unsqueeze(0)));
        let (xbc, _) = conv::causal_conv1d_silu(&xbc, &self.conv_weight, &self.conv_bias, None);
        (z.squeeze_dim(0), self.scan_inputs(&xbc, &dt))
    }

    /// `[heads, length, length]`: what the scan does to `x`, without the skip.
    pub fn matrix(&self, u: &Tensor) -> Tensor {
        let (
            _,
            Projected {
                x,
                b,
                c,
                delta,
                log_decay,
            },
        ) = self.single(u);
        let scan = Scan {
            log_decay: &log_decay,
            weight: &delta,
            x: &x,
            b: &b,
            c: &c,
        };
        scan.matrix().squeeze_dim(0)
    }

    /// Output `[length, width]` from the matrix.
    pub fn apply_matrix(&self, matrix: &Tensor, u: &Tensor) -> Tensor {
        let (z, inputs) = self.single(u);
        let x = inputs.x.squeeze_dim(0);
        let y = matrix.matmul(&x.transpose(0, 1)).transpose(0, 1);
        self.finish(&y, &x, &z)
    }
}
