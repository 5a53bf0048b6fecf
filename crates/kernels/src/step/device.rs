//! The decode steps on CUDA: the C side is `kernels/ops/step.cpp`.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use tch::{Kind, Tensor};

use super::{Attention, EPS, Mamba2, Mamba3, Mamba3State, Rows};
type Pointer = *mut c_void;

#[repr(C)]
struct RowPointers {
    index: Pointer,
    mask: Pointer,
}

#[repr(C)]
struct Mamba2Arguments {
    rows: RowPointers,
    projected: Pointer,
    conv_weight: Pointer,
    conv_bias: Pointer,
    dt_bias: Pointer,
    a_log: Pointer,
    skip: Pointer,
    tail: Pointer,
    ssm: Pointer,
    head_dim: i64,
    state: i64,
    groups: i64,
}

#[repr(C)]
struct Mamba3Arguments {
    rows: RowPointers,
    projected: Pointer,
    dt_bias: Pointer,
    b_norm: Pointer,
    c_norm: Pointer,
    b_bias: Pointer,
    c_bias: Pointer,
    skip: Pointer,
    up: Pointer,
    gate: Pointer,
    down: Pointer,
    norm: Pointer,
    angle: Pointer,
    ssm: Pointer,
    k: Pointer,
    v: Pointer,
    head_dim: i64,
    state: i64,
    groups: i64,
    rank: i64,
    angles: i64,
    halves: i64,
    heavy_tail: i64,
    floor: f64,
    eps: f64,
}

#[repr(C)]
struct AttentionArguments {
    rows: RowPointers,
    projected: Pointer,
    k: Pointer,
    v: Pointer,
    seen: Pointer,
    heads: i64,
    head_dim: i64,
    window: i64,
    rotary: i64,
}

#[allow(unsafe_code)]
mod ffi {
    use super::{AttentionArguments, Mamba2Arguments, Mamba3Arguments, Pointer, c_char};
    unsafe extern "C" {
        pub fn cistron_step_built() -> bool;
        pub fn cistron_mamba2_step(
            arguments: *const Mamba2Arguments,
            out: *mut Pointer,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_mamba3_step(
            arguments: *const Mamba3Arguments,
            out: *mut Pointer,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_attention_step(
            arguments: *const AttentionArguments,
            out: *mut Pointer,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

fn built() -> bool {
    // SAFETY: the function returns a constant.
    #[allow(unsafe_code)]
    unsafe {
        ffi::cistron_step_built()
    }
}

/// Whether the kernels can take activations like these.
pub(super) fn usable(activations: &Tensor) -> bool {
    activations.device().is_cuda()
        && built()
        && matches!(activations.kind(), Kind::Float | Kind::BFloat16)
}

/// Whether the kernels can take activations and states like these.
pub(super) fn takes(activations: &Tensor, states: &[&Tensor]) -> bool {
    usable(activations) && states.iter().all(|state| state.kind() == Kind::Float)
}

fn pointer(tensor: &Tensor) -> Pointer {
    tensor.as_ptr().cast_mut().cast()
}

fn optional(tensor: Option<&Tensor>) -> Pointer {
    tensor.map_or(null_mut(), pointer)
}

fn pointers(rows: Rows<'_>) -> RowPointers {
    RowPointers {
        index: optional(rows.index),
        mask: optional(rows.mask),
    }
}

/// Calls a C function and takes over the tensor that it makes.
///
/// Panics with the function's message, as the operators of tch do.
fn call(run: impl FnOnce(*mut Pointer, *mut c_char, usize) -> bool) -> Tensor {
    let mut error = [0 as c_char; 1024];
    let mut out = null_mut();
    if !run(&raw mut out, error.as_mut_ptr(), error.len()) {
        // SAFETY: the C side ends the message with NUL.
        #[allow(unsafe_code)]
        let message = unsafe { CStr::from_ptr(error.as_ptr()) };
        panic!("{}", message.to_string_lossy());
    }
    // SAFETY: on success the C side has made a tensor on the heap and keeps no pointer to it.
    #[allow(unsafe_code)]
    unsafe {
        Tensor::from_ptr(out.cast())
    }
}

pub(super) fn mamba2(
    projected: &Tensor,
    weights: &Mamba2<'_>,
    tail: &Tensor,
    ssm: &Tensor,
    rows: Rows<'_>,
) -> Tensor {
    let arguments = Mamba2Arguments {
        rows: pointers(rows),
        projected: pointer(projected),
        conv_weight: pointer(weights.conv_weight),
        conv_bias: pointer(weights.conv_bias),
        dt_bias: pointer(weights.dt_bias),
        a_log: pointer(weights.a_log),
        skip: pointer(weights.d),
        tail: pointer(tail),
        ssm: pointer(ssm),
        head_dim: weights.head_dim,
        state: weights.states,
        groups: weights.groups,
    };
    // SAFETY: all pointers are those of live tensors, or null where one may be absent.
    #[allow(unsafe_code)]
    call(|out, error, size| unsafe {
        ffi::cistron_mamba2_step(&raw const arguments, out, error, size)
    })
}

pub(super) fn mamba3(
    projected: &Tensor,
    weights: &Mamba3<'_>,
    state: &Mamba3State<'_>,
    rows: Rows<'_>,
) -> Tensor {
    let mimo = |i: usize| optional(weights.mimo.map(|mimo| mimo[i]));
    let arguments = Mamba3Arguments {
        rows: pointers(rows),
        projected: pointer(projected),
        dt_bias: pointer(weights.dt_bias),
        b_norm: pointer(weights.b_norm),
        c_norm: pointer(weights.c_norm),
        b_bias: pointer(weights.b_bias),
        c_bias: pointer(weights.c_bias),
        skip: pointer(weights.d),
        up: mimo(0),
        gate: mimo(1),
        down: mimo(2),
        norm: optional(weights.norm),
        angle: pointer(state.angle),
        ssm: pointer(state.ssm),
        k: pointer(state.k),
        v: pointer(state.v),
        head_dim: weights.head_dim,
        state: weights.states,
        groups: weights.groups,
        rank: weights.rank,
        angles: weights.angles,
        halves: i64::from(weights.halves),
        heavy_tail: i64::from(weights.heavy_tail),
        floor: weights.floor,
        eps: EPS,
    };
    // SAFETY: as in `mamba2`.
    #[allow(unsafe_code)]
    call(|out, error, size| unsafe {
        ffi::cistron_mamba3_step(&raw const arguments, out, error, size)
    })
}

pub(super) fn attention(
    qkv: &Tensor,
    sizes: Attention,
    k: &Tensor,
    v: &Tensor,
    seen: &Tensor,
    rows: Rows<'_>,
) -> Tensor {
    let arguments = AttentionArguments {
        rows: pointers(rows),
        projected: pointer(qkv),
        k: pointer(k),
        v: pointer(v),
        seen: pointer(seen),
        heads: sizes.heads,
        head_dim: sizes.head_dim,
        window: sizes.window,
        rotary: sizes.rotary_dim,
    };
    // SAFETY: as in `mamba2`.
    #[allow(unsafe_code)]
    call(|out, error, size| unsafe {
        ffi::cistron_attention_step(&raw const arguments, out, error, size)
    })
}
