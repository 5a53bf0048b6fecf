//! The optimizer's work over lists of tensors, a few launches for all of them.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

type Pointer = *const c_void;

#[allow(unsafe_code)]
mod ffi {
    use super::{Pointer, c_char};
    unsafe extern "C" {
        pub fn cistron_adamw(
            tensors: *const Pointer,
            count: usize,
            step: f64,
            rate: f64,
            beta1: f64,
            beta2: f64,
            decay: f64,
            eps: f64,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_norms(
            tensors: *const Pointer,
            count: usize,
            error: *mut c_char,
            size: usize,
        ) -> *mut super::c_void;
        pub fn cistron_copy(
            tensors: *const Pointer,
            count: usize,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_scale(
            tensors: *const Pointer,
            count: usize,
            factor: f64,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

/// One parameter with what AdamW keeps of it; all fp32, contiguous, on one device.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The parameter.
    pub value: &'a Tensor,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// Running mean of the gradient.
    pub first: &'a Tensor,
    /// Running mean of its square.
    pub second: &'a Tensor,
}

/// Numbers of an AdamW step.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Number of the step, the first being 1.
    pub step: u64,
    /// Learning rate.
    pub rate: f64,
    /// Decay of the moments.
    pub betas: [f64; 2],
    /// Weight decay, multiplied by the rate.
    pub decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// Takes the step, in place (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2).
///
/// # Panics
///
/// When tensors differ in size, kind or device.
pub fn adamw(slots: &[Slot<'_>], numbers: AdamW) {
    let column = |of: fn(&Slot<'_>) -> Pointer| slots.iter().map(of).collect::<Vec<_>>();
    let tensors = [
        column(|slot| slot.value.as_ptr().cast()),
        column(|slot| slot.gradient.as_ptr().cast()),
        column(|slot| slot.first.as_ptr().cast()),
        column(|slot| slot.second.as_ptr().cast()),
    ]
    .concat();
    let AdamW {
        step,
        rate,
        betas,
        decay,
        eps,
    } = numbers;
    call("AdamW", |error, size| {
        // SAFETY: four lists of as many tensors as there are slots, which live through
        // the call; the message is as `call` has it.
        #[allow(unsafe_code)]
        unsafe {
            ffi::cistron_adamw(
                tensors.as_ptr(),
                slots.len(),
                step as f64,
                rate,
                betas[0],
                betas[1],
                decay,
                eps,
                error,
                size,
            )
        }
    });
}

/// Euclidean norm of each tensor: `[tensors]`, on their device.
///
/// # Panics
///
/// When there is none, or they are on different devices.
pub fn norms(tensors: &[Tensor]) -> Tensor {
    let pointers = pointers(tensors);
    let mut output = std::ptr::null_mut();
    call("norms", |error, size| {
        // SAFETY: the tensors live through the call; the message is as `call` has it.
        #[allow(unsafe_code)]
        unsafe {
            output = ffi::cistron_norms(pointers.as_ptr(), pointers.len(), error, size);
        }
        !output.is_null()
    });
    // SAFETY: the shim hands out a new tensor, once.
    #[allow(unsafe_code)]
    unsafe {
        Tensor::from_ptr(output.cast())
    }
}

/// Multiplies each tensor by `factor`, in place.
///
/// # Panics
///
/// When libtorch refuses.
pub fn scale(tensors: &[Tensor], factor: f64) {
    let pointers = pointers(tensors);
    call("scaling", |error, size| {
        // SAFETY: as in `norms`.
        #[allow(unsafe_code)]
        unsafe {
            ffi::cistron_scale(pointers.as_ptr(), pointers.len(), factor, error, size)
        }
    });
}

/// Copies each of `from` into its like of `to`.
///
/// # Panics
///
/// When they differ in number or shape.
pub fn copy(to: &[Tensor], from: &[Tensor]) {
    assert_eq!(to.len(), from.len(), "a copy needs pairs");
    let pointers = [pointers(to), pointers(from)].concat();
    call("copying", |error, size| {
        // SAFETY: two lists of as many tensors, which live through the call; the message is
        // as `call` has it.
        #[allow(unsafe_code)]
        unsafe {
            ffi::cistron_copy(pointers.as_ptr(), to.len(), error, size)
        }
    });
}

fn pointers(tensors: &[Tensor]) -> Vec<Pointer> {
    tensors
        .iter()
        .map(|tensor| tensor.as_ptr().cast())
        .collect()
}

/// Calls the shim, which writes at most `size` bytes of a message and ends them with NUL.
fn call(what: &str, body: impl FnOnce(*mut c_char, usize) -> bool) {
    let mut error = [0 as c_char; 1024];
    let done = body(error.as_mut_ptr(), error.len());
    // SAFETY: the message ends with NUL within the buffer.
    #[allow(unsafe_code)]
    let message = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy();
    assert!(done, "{what}: {message}");
}
