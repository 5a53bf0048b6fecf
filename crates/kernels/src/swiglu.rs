//! The product of SwiGLU.

use tch::{Kind, Tensor};

use crate::{device, linear};

/// `value * silu(gate)`: `[tokens, 2 hidden]`, the values first, to `[tokens, hidden]`.
///
/// fp32 or bf16; on CUDA one kernel each way.
pub fn swiglu(x: &Tensor) -> Tensor {
    if device::usable(x) && x.dim() == 2 {
        let [y] = device::call(device::cistron_swiglu, &[Some(x)], &[]);
        return y;
    }
    swiglu_plain(x)
}

/// [`swiglu`] times a matrix: `weight` `[out, hidden]` to `[tokens, out]`.
///
/// In bf16 on CUDA the product is not kept for the backward pass, which makes it again.
pub fn swiglu_linear(x: &Tensor, weight: &Tensor) -> Tensor {
    if device::joinable(x) && x.dim() == 2 && x.kind() == Kind::BFloat16 {
        let [y] = device::call(device::cistron_swiglu_linear, &[Some(x), Some(weight)], &[]);
        return y;
    }
    linear(&swiglu(x), weight)
}

/// The same by libtorch's operators, on any device and shape `[…, 2 hidden]`.
pub fn swiglu_plain(x: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    halves[1].silu() * &halves[0]
}
