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
pub mod conv;
mod device;
pub mod ema;
pub mod graph;
pub mod hooks;
pub mod layout;
pub mod mamba3;
pub mod nccl;
pub mod norm;
pub mod optimizer;
pub mod rotary;
pub mod runtime;
pub mod scan;
pub mod ssm;
pub mod step;
pub mod swiglu;
mod upload;

pub use layout::{Layout, Packed};
pub use upload::upload;

use tch::Tensor;

/// `x weightᵀ` in the kind of `x`: `[…, in]` and `[out, in]` to `[…, out]`. A weight of
/// another kind is converted, and its gradient comes back in its own.
pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear(&weight.to_kind(x.kind()), None::<&Tensor>)
}
