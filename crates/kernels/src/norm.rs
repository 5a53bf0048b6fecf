//! RMSNorm and its gated form.

use tch::{Kind, Tensor};

/// Added to the mean square before the root.
pub const EPS: f64 = 1e-5;

/// `x / sqrt(mean(x²) + 1e-5) * weight` over the last dimension.
///
/// Statistics in fp32; the result has the kind of `weight`'s caller, that is of `x`.
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Tensor {
    let kind = x.kind();
    let x = x.to_kind(Kind::Float);
    let width = x.size().last().copied().unwrap_or(0);
    x.rms_norm([width], Some(&weight.to_kind(Kind::Float)), EPS)
        .to_kind(kind)
}

/// `rms_norm(y * silu(z), weight)`: the gate comes before the norm (Mamba-2).
pub fn gated_rms_norm(y: &Tensor, z: &Tensor, weight: &Tensor) -> Tensor {
    rms_norm(&(y * z.silu()), weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn rms_norm_is_its_definition() {
        let x = Tensor::randn([5, 16], (Kind::Float, Device::Cpu));
        let weight = Tensor::randn([16], (Kind::Float, Device::Cpu));
        let mean = (&x * &x).mean_dim([-1i64].as_slice(), true, Kind::Float);
        let expected = &x / (mean + EPS).sqrt() * &weight;
        let error = (rms_norm(&x, &weight) - expected)
            .abs()
            .max()
            .double_value(&[]);
        assert!(error < 1e-6, "{error}");
    }
}
