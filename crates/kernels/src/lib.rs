//! Operators of the models.
//!
//! Each operator has a plain libtorch form here: it runs on every device, it is
//! the oracle for faster kernels, and it is what the CPU uses. The C++ shim in
//! `kernels/` holds what tch lacks.
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

/// `x weightᵀ` in the kind of `x`: `[…, in]` and `[out, in]` to `[…, out]`. A weight of
/// another kind is converted, and its gradient comes back in its own.
pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear(&weight.to_kind(x.kind()), None::<&Tensor>)
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
    x.to_kind(Kind::Float).linear(weight, None::<&Tensor>)
}
