//! Calls of the C++ operators: the C side is `kernels/ops/`, its `Call`.
//!
//! Those of CUDA are differentiable, and exist where `build.rs` found nvcc.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use crate::runtime;

type Pointer = *mut c_void;

/// An operator's C function: tensors, numbers, outputs, message.
pub(crate) type Operator =
    unsafe extern "C" fn(*const Pointer, *const i64, *mut Pointer, *mut c_char, usize) -> bool;

macro_rules! operators {
    ($($name:ident),* $(,)?) => {
        /// The C functions; without CUDA kernels nothing calls them, and they are not linked.
        #[cfg(cistron_cuda)]
        #[allow(unsafe_code)]
        mod ffi {
            use super::{Pointer, c_char};
            unsafe extern "C" {
                $(pub fn $name(
                    tensors: *const Pointer,
                    numbers: *const i64,
                    outputs: *mut Pointer,
                    error: *mut c_char,
                    size: usize,
                ) -> bool;)*
            }
        }
        #[cfg(cistron_cuda)]
        pub(crate) use ffi::{$($name),*};

        $(
            #[cfg(not(cistron_cuda))]
            #[allow(unsafe_code)]
            pub(crate) unsafe extern "C" fn $name(
                _: *const Pointer,
                _: *const i64,
                _: *mut Pointer,
                _: *mut c_char,
                _: usize,
            ) -> bool {
                unreachable!("`usable` is false without CUDA kernels")
            }
        )*
    };
}

operators!(
    cistron_attention_step,
    cistron_mamba2_step,
    cistron_mamba3_step,
    cistron_route_step,
    cistron_dechunk_step,
    cistron_swiglu,
    cistron_swiglu_linear,
    cistron_gated_linear,
    cistron_add_norm,
    cistron_add_norm_linear,
    cistron_gated_norm,
    cistron_rotary,
    cistron_mamba2,
    cistron_mamba3_gates,
    cistron_router,
    cistron_places,
    cistron_gather,
    cistron_dechunk,
    cistron_float_linear,
    cistron_entropy
);

/// Operators of the host, which every build has.
#[allow(unsafe_code)]
mod cpu {
    use super::{Pointer, c_char};
    macro_rules! operators {
        ($($name:ident),* $(,)?) => {
            unsafe extern "C" {
                $(pub fn $name(
                    tensors: *const Pointer,
                    numbers: *const i64,
                    outputs: *mut Pointer,
                    error: *mut c_char,
                    size: usize,
                ) -> bool;)*
            }
        };
    }
    operators!(
        cistron_add_norm_cpu,
        cistron_linear_cpu,
        cistron_mamba2_cpu,
        cistron_pin,
    );
    unsafe extern "C" {
        pub fn cistron_cpu_usable() -> bool;
        pub fn cistron_differentiable(tensors: *const Pointer, count: usize) -> bool;
    }
}
pub(crate) use cpu::{cistron_add_norm_cpu, cistron_linear_cpu, cistron_mamba2_cpu, cistron_pin};

/// Whether the operators of the CPU take these: fp32, and no gradient is asked for.
pub(crate) fn usable_on_cpu(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|tensor| tensor.device() == Device::Cpu && tensor.kind() == Kind::Float)
        && runtime::operators_joined()
        && !refused_on_cpu(tensors)
}

/// Whether a result of these requires a gradient, or the processor does not run the operators.
#[allow(unsafe_code)]
fn refused_on_cpu(tensors: &[&Tensor]) -> bool {
    let pointers: Vec<Pointer> = tensors
        .iter()
        .map(|tensor| tensor.as_ptr().cast_mut().cast())
        .collect();
    // SAFETY: the functions read facts about the processor, and flags of tensors that live
    // through the call.
    unsafe {
        !cpu::cistron_cpu_usable() || cpu::cistron_differentiable(pointers.as_ptr(), pointers.len())
    }
}

/// Whether the kernels take activations of this kind and device.
pub(crate) fn usable(x: &Tensor) -> bool {
    kernels_for(x.device()) && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// Whether there are kernels for a device.
pub(crate) fn kernels_for(device: Device) -> bool {
    device.is_cuda() && runtime::kernels_built()
}

/// Whether the kernels of operators that join several take this.
pub(crate) fn joinable(x: &Tensor) -> bool {
    usable(x) && runtime::operators_joined()
}

/// Calls an operator with tensors (`None` where absent) and numbers; returns `N` outputs.
///
/// Panics with the operator's message, as the operators of tch do.
pub(crate) fn call<const N: usize>(
    operator: Operator,
    tensors: &[Option<&Tensor>],
    numbers: &[i64],
) -> [Tensor; N] {
    let pointers: Vec<Pointer> = tensors
        .iter()
        .map(|tensor| tensor.map_or(null_mut(), |t| t.as_ptr().cast_mut().cast()))
        .collect();
    let mut outputs = [null_mut(); N];
    let mut error = [0 as c_char; 1024];
    // SAFETY: the tensors live through the call; the operator reads as many tensors and
    // numbers, and makes as many outputs, as its only caller here gives; the message ends
    // with NUL.
    #[allow(unsafe_code)]
    unsafe {
        if !operator(
            pointers.as_ptr(),
            numbers.as_ptr(),
            outputs.as_mut_ptr(),
            error.as_mut_ptr(),
            error.len(),
        ) {
            panic!("{}", CStr::from_ptr(error.as_ptr()).to_string_lossy());
        }
    }
    // SAFETY: on success every output is a tensor on the heap that nothing else points to.
    #[allow(unsafe_code)]
    outputs.map(|output| unsafe { Tensor::from_ptr(output.cast()) })
}
