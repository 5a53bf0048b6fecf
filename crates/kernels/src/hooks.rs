//! Gradients that gather where they are wanted, and say when they are there.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

type Raw = *mut c_void;
type Ready = Box<dyn Fn() -> Result<(), String> + Send>;

#[allow(unsafe_code)]
mod ffi {
    use super::{Raw, c_char};

    pub type Call = unsafe extern "C" fn(Raw, *mut c_char, usize) -> bool;
    pub type Drop = unsafe extern "C" fn(Raw);

    unsafe extern "C" {
        pub fn cistron_gather_into(
            leaf: Raw,
            gradient: *const super::c_void,
            closure: Raw,
            call: Call,
            drop: Drop,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

/// From now on backward passes add the gradient of `leaf` to `gradient`, in place, and call
/// `ready` once each when that is queued on the device.
///
/// `gradient` has the shape and kind of the leaf and may be a view. `ready` is called and
/// dropped on a thread of the autograd engine; its error, or its panic, becomes that of the
/// backward pass.
///
/// # Panics
///
/// When the tensors differ in shape, kind or device.
pub fn gather_into(
    leaf: &Tensor,
    gradient: &Tensor,
    ready: impl Fn() -> Result<(), String> + Send + 'static,
) {
    let mut leaf = leaf.shallow_clone();
    let closure: Box<Ready> = Box::new(Box::new(ready));
    let mut error = [0 as c_char; 1024];
    // SAFETY: the tensors live through the call, which keeps handles of its own; the closure
    // is handed over for good; the shim writes at most `len` bytes and ends them with NUL.
    #[allow(unsafe_code)]
    let (done, message) = unsafe {
        let done = ffi::cistron_gather_into(
            leaf.as_mut_ptr().cast(),
            gradient.as_ptr().cast(),
            Box::into_raw(closure).cast(),
            call,
            drop_closure,
            error.as_mut_ptr(),
            error.len(),
        );
        (done, CStr::from_ptr(error.as_ptr()).to_string_lossy())
    };
    assert!(done, "a gradient's place: {message}");
}

/// # Safety
///
/// `closure` comes from [`gather_into`], and `error` has `size` bytes.
#[allow(unsafe_code)]
unsafe extern "C" fn call(closure: Raw, error: *mut c_char, size: usize) -> bool {
    // SAFETY: as the caller promises.
    let ready = unsafe { &*closure.cast::<Ready>() };
    let message = match catch_unwind(AssertUnwindSafe(ready)) {
        Ok(Ok(())) => return true,
        Ok(Err(message)) => message,
        Err(_) => "a gradient's hook panicked".to_owned(),
    };
    let length = message.len().min(size.saturating_sub(1));
    // SAFETY: `length + 1 <= size` bytes are written.
    unsafe {
        std::ptr::copy_nonoverlapping(message.as_ptr().cast(), error, length);
        *error.add(length) = 0;
    }
    false
}

/// # Safety
///
/// `closure` comes from [`gather_into`] and is not used again.
#[allow(unsafe_code)]
unsafe extern "C" fn drop_closure(closure: Raw) {
    // SAFETY: as the caller promises.
    drop(unsafe { Box::from_raw(closure.cast::<Ready>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::Kind;

    use super::*;

    #[test]
    fn gradients_add_up_in_their_place() {
        let whole = Tensor::zeros([5], (Kind::Float, tch::Device::Cpu));
        let leaf = Tensor::from_slice(&[1f32, 2.0, 3.0]).set_requires_grad(true);
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        gather_into(&leaf, &whole.narrow(0, 1, 3), move || {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        for _ in 0..2 {
            (&leaf * 2.0 + &leaf).sum(Kind::Float).backward();
        }
        assert_eq!(
            Vec::<f32>::try_from(&whole).unwrap(),
            [0.0, 6.0, 6.0, 6.0, 0.0]
        );
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop(leaf);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn a_failure_is_that_of_the_backward_pass() {
        let leaf = Tensor::from_slice(&[1f32]).set_requires_grad(true);
        gather_into(&leaf, &leaf.detach().zeros_like(), || {
            Err("no way out".into())
        });
        let error = leaf.sum(Kind::Float).f_backward().unwrap_err().to_string();
        assert!(error.contains("no way out"), "{error}");
    }
}
