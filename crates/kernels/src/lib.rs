//! Operators of the models.
//!
//! Each operator has a plain libtorch form here: it runs on every device, and it is the oracle
//! for faster kernels, which CUDA has for most and the CPU, without gradients, for what takes
//! its time. The C++ shim in `kernels/` holds them, and what tch lacks.
//!
//! All operators work on ragged batches described by a [`Layout`]: sequences
//! lie one after another in one tensor `[tokens, …]`.

pub mod attention;
pub mod checkpoint;
pub mod chunk;
pub mod conv;
pub mod dechunk;
mod device;
pub mod ema;
pub mod entropy;
pub mod graph;
pub mod hooks;
pub mod layout;
pub mod mamba2;
pub mod mamba3;
pub mod nccl;
pub mod norm;
pub mod optimizer;
pub mod profile;
pub mod rotary;
pub mod runtime;
pub mod scan;
pub mod ssm;
pub mod step;
pub mod swiglu;
mod upload;

pub use layout::{Layout, Packed};
pub use upload::{pin, upload};

use tch::{Kind, Tensor};

/// Rows from which products on the CPU are ours: below, most of a vector would be idle.
const ROWS: i64 = 8;

/// `x weightᵀ` in the kind of `x`: `[…, in]` and `[out, in]` to `[…, out]`. A weight of
/// another kind is converted, and its gradient comes back in its own.
pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    linear_bias(x, weight, None)
}

/// [`linear`] with a bias `[out]`.
pub(crate) fn linear_bias(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let tensors = [x, weight, bias.unwrap_or(weight)];
    if x.dim() == 2 && x.size()[0] >= ROWS && device::usable_on_cpu(&tensors) {
        let inputs = [Some(x), Some(weight), bias];
        let [y] = device::call(device::cistron_linear_cpu, &inputs, &[]);
        return y;
    }
    x.linear(&weight.to_kind(x.kind()), bias)
}

/// `x weightᵀ` in fp32, whatever the kind of `x`: `[tokens, in]` and fp32 `[out, in]` to
/// `[tokens, out]`.
///
/// On CUDA the backward pass keeps `x` in its own kind.
pub fn linear_float(x: &Tensor, weight: &Tensor) -> Tensor {
    if device::joinable(x) && x.kind() != Kind::Float && x.dim() == 2 {
        let [y] = device::call(device::cistron_float_linear, &[Some(x), Some(weight)], &[]);
        return y;
    }
    linear(&x.to_kind(Kind::Float), weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use tch::Device;

    #[test]
    fn products_on_the_cpu_are_those_of_libtorch() {
        let _held = seeded(1);
        for (tokens, width, rows) in [(8, 1, 1), (9, 5, 7), (130, 192, 902), (64, 33, 12)] {
            let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (x, weight) = (draw(&[tokens, width]), draw(&[rows, width]));
            let bias = draw(&[rows]);
            for bias in [None, Some(&bias)] {
                let y = linear_bias(&x, &weight, bias);
                let double = |t: &Tensor| t.to_kind(Kind::Double);
                let expected = double(&x).linear(&double(&weight), bias.map(double).as_ref());
                let error = (double(&y) - expected).abs().max().double_value(&[]);
                assert!(error < 1e-6 * width as f64 + 1e-6, "{error}");
                // A row is the same among others and with fewer of them.
                let some = linear_bias(&x.narrow(0, 0, 8), &weight, bias);
                assert_eq!(some, y.narrow(0, 0, 8));
                let wanted = linear_bias(&x.copy().set_requires_grad(true), &weight, bias);
                assert!(wanted.requires_grad());
            }
        }
    }
}
