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

/// `value * silu(gate)`, both `[tokens, hidden]`, times a matrix: `weight` `[out, hidden]` to
/// `[tokens, out]`; as [`swiglu_linear`], with values and gates in two tensors.
pub fn gated_linear(value: &Tensor, gate: &Tensor, weight: &Tensor) -> Tensor {
    let half = |t: &Tensor| t.dim() == 2 && t.kind() == Kind::BFloat16;
    if device::joinable(value) && half(value) && half(gate) {
        let inputs = [Some(value), Some(gate), Some(weight)];
        let [y] = device::call(device::cistron_gated_linear, &inputs, &[]);
        return y;
    }
    linear(&(gate.silu() * value), weight)
}

/// [`swiglu`] by libtorch's operators, on any device and shape `[…, 2 hidden]`.
pub fn swiglu_plain(x: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    halves[1].silu() * &halves[0]
}
