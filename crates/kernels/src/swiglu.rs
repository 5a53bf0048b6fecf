//! The product of SwiGLU.

use tch::Tensor;

use crate::device;

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

/// The same by libtorch's operators, on any device and shape `[…, 2 hidden]`.
pub fn swiglu_plain(x: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    halves[1].silu() * &halves[0]
}
