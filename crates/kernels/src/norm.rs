//! RMSNorm and its gated form.

use tch::{Kind, Tensor};

use crate::{device, linear};

/// Added to the mean square before the root.
pub const EPS: f64 = 1e-5;

/// `x / sqrt(mean(x²) + 1e-5) * weight` over the last dimension.
///
/// Statistics in fp32, of fp64 in fp64; the result has the kind of `weight`'s caller, that is of `x`.
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Tensor {
    let kind = x.kind();
    let exact = match kind {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    };
    let x = x.to_kind(exact);
    let width = x.size().last().copied().unwrap_or(0);
    x.rms_norm([width], Some(&weight.to_kind(exact)), EPS)
        .to_kind(kind)
}

/// Widest row of the kernels; widths are multiples of 8.
const WIDEST: i64 = 4096;

fn fused(x: &Tensor) -> bool {
    let width = x.size().last().copied().unwrap_or(0);
    device::usable(x) && x.dim() == 2 && width % 8 == 0 && width <= WIDEST
}

/// The residual stream with `branch` added, and its norm in `kind`:
/// `(residual + branch, rms_norm(residual + branch, weight))`.
///
/// - `residual`: fp32 `[tokens, width]`; `branch`: the same shape, fp32 or bf16
///
/// On CUDA with bf16 results this is one kernel each way, and on the CPU in fp32 without gradients
/// one pass.
pub fn add_rms_norm(
    residual: &Tensor,
    branch: Option<&Tensor>,
    weight: &Tensor,
    kind: Kind,
) -> (Tensor, Tensor) {
    let halves = branch.is_none_or(|branch| branch.kind() == Kind::BFloat16);
    if kind == Kind::BFloat16 && halves && fused(residual) {
        let inputs = [Some(residual), branch, Some(weight)];
        let [sum, y] = device::call(device::cistron_add_norm, &inputs, &[]);
        return (sum, y);
    }
    let rows = residual.dim() == 2 && branch.is_none_or(|branch| branch.size() == residual.size());
    let tensors = [residual, weight, branch.unwrap_or(residual)];
    if kind == Kind::Float && rows && device::usable_on_cpu(&tensors) {
        let inputs = [Some(residual), branch, Some(weight)];
        let [sum, y] = device::call(device::cistron_add_norm_cpu, &inputs, &[]);
        return (sum, y);
    }
    let sum = branch.map_or_else(|| residual.shallow_clone(), |branch| residual + branch);
    let y = rms_norm(&sum, weight).to_kind(kind);
    (sum, y)
}

/// [`add_rms_norm`] times a matrix: `(sum, y weightᵀ)`, where `y` is the norm in `kind`.
///
/// - `weight`: `[out, width]`; `spare` columns of zeros come after the `out` ones
///
/// On CUDA with bf16 results the norm is not kept for the backward pass, which makes it again.
pub fn add_rms_norm_linear(
    residual: &Tensor,
    branch: Option<&Tensor>,
    norm: &Tensor,
    weight: &Tensor,
    spare: i64,
    kind: Kind,
) -> (Tensor, Tensor) {
    let halves = branch.is_none_or(|branch| branch.kind() == Kind::BFloat16);
    if kind == Kind::BFloat16 && halves && fused(residual) && device::joinable(residual) {
        let inputs = [Some(residual), branch, Some(norm), Some(weight)];
        let [sum, y] = device::call(device::cistron_add_norm_linear, &inputs, &[spare]);
        return (sum, y);
    }
    let (sum, y) = add_rms_norm(residual, branch, norm, kind);
    let y = match spare {
        0 => linear(&y, weight),
        _ => linear(&y, &weight.to_kind(kind).constant_pad_nd([0, 0, 0, spare])),
    };
    (sum, y)
}

/// `rms_norm(y * silu(z), weight)`: the gate comes before the norm (Mamba-2).
///
/// In bf16 on CUDA one kernel each way; rows of `z` may be a slice of a projection's.
pub fn gated_rms_norm(y: &Tensor, z: &Tensor, weight: &Tensor) -> Tensor {
    if y.kind() == Kind::BFloat16 && z.kind() == Kind::BFloat16 && fused(y) {
        let inputs = [Some(y), Some(z), Some(weight)];
        let [out] = device::call(device::cistron_gated_norm, &inputs, &[]);
        return out;
    }
    rms_norm(&(y * z.silu()), weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use tch::Device;

    #[test]
    fn rms_norm_is_its_definition() {
        let _held = seeded(1);
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

    #[test]
    fn sum_and_norm_on_the_cpu_are_those_of_plain_operators() {
        let _held = seeded(2);
        for (tokens, width) in [(0, 8), (1, 1), (3, 7), (5, 192), (900, 100)] {
            let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (x, branch) = (draw(&[tokens, width]), draw(&[tokens, width]));
            let weight = draw(&[width]);
            for branch in [None, Some(&branch)] {
                let run = |x: &Tensor| add_rms_norm(x, branch, &weight, Kind::Float);
                let (sum, y) = run(&x);
                // Gradients are left to the plain operators.
                let (expected, norm) = run(&x.copy().set_requires_grad(true));
                assert!(norm.requires_grad() && !y.requires_grad());
                assert_eq!(sum, expected);
                let error = (y - norm).abs().sum(Kind::Float).double_value(&[]);
                assert!(error <= 1e-6 * (tokens * width) as f64, "{error}");
            }
        }
    }
}
