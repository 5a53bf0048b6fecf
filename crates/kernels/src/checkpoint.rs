//! Activation checkpointing: part of a network is run again in the backward pass instead
//! of keeping what it computed.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

type Segment = Box<dyn Fn(&Tensor) -> Tensor + Send>;
type Raw = *mut c_void;

#[allow(unsafe_code)]
mod ffi {
    use super::{Raw, c_char};

    pub type Call = unsafe extern "C" fn(Raw, Raw, *mut c_char, usize) -> Raw;
    pub type Drop = unsafe extern "C" fn(Raw);

    unsafe extern "C" {
        pub fn cistron_checkpoint(
            tensors: *const *const super::c_void,
            count: usize,
            closure: Raw,
            call: Call,
            drop: Drop,
            error: *mut c_char,
            size: usize,
        ) -> Raw;
        pub fn cistron_gradients(
            output: *const super::c_void,
            gradient: *const super::c_void,
            inputs: *const *const super::c_void,
            count: usize,
            found: *mut Raw,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

/// Gradients of `output` along `gradient` with respect to each of `inputs`; nothing is
/// added to the gradients that tensors hold.
///
/// # Errors
///
/// What libtorch says, such as that an input is no part of the graph.
pub fn gradients(
    output: &Tensor,
    gradient: &Tensor,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    let pointer = |tensor: &Tensor| -> *const c_void { tensor.as_ptr().cast() };
    let pointers: Vec<_> = inputs.iter().map(pointer).collect();
    let mut found: Vec<Raw> = vec![std::ptr::null_mut(); inputs.len()];
    let mut error = [0 as c_char; 1024];
    // SAFETY: the tensors live through the call; on success every entry of `found` is a
    // new tensor of ours; the message is as in `checkpoint`.
    #[allow(unsafe_code)]
    unsafe {
        let done = ffi::cistron_gradients(
            pointer(output),
            pointer(gradient),
            pointers.as_ptr(),
            pointers.len(),
            found.as_mut_ptr(),
            error.as_mut_ptr(),
            error.len(),
        );
        if !done {
            let message = CStr::from_ptr(error.as_ptr()).to_string_lossy();
            return Err(message.into_owned());
        }
        Ok(found
            .into_iter()
            .map(|tensor| Tensor::from_ptr(tensor.cast()))
            .collect())
    }
}

/// Runs `segment` on `input` without keeping its intermediate results; the backward pass
/// runs it once more on the same input.
///
/// `leaves` are all parameters that the segment reads: gradients reach only these and
/// `input`. The segment must return the same for the same input, and a new tensor. The
/// backward pass may call and drop it on a thread of the autograd engine.
///
/// # Panics
///
/// When the segment does. A panic in the backward pass becomes its error.
pub fn checkpoint(
    input: &Tensor,
    leaves: &[&Tensor],
    segment: impl Fn(&Tensor) -> Tensor + Send + 'static,
) -> Tensor {
    let tensors: Vec<*const c_void> = std::iter::once(input)
        .chain(leaves.iter().copied())
        .map(|tensor| tensor.as_ptr().cast())
        .collect();
    let segment: Box<Segment> = Box::new(Box::new(segment));
    let mut error = [0 as c_char; 1024];
    // SAFETY: the tensors live through the call, which copies them; the closure is handed
    // over for good; the shim writes at most `len` bytes and ends them with NUL, and a
    // pointer that is not null is a new tensor of ours.
    #[allow(unsafe_code)]
    unsafe {
        let output = ffi::cistron_checkpoint(
            tensors.as_ptr(),
            tensors.len(),
            Box::into_raw(segment).cast(),
            call,
            drop_segment,
            error.as_mut_ptr(),
            error.len(),
        );
        assert!(
            !output.is_null(),
            "checkpoint: {}",
            CStr::from_ptr(error.as_ptr()).to_string_lossy()
        );
        Tensor::from_ptr(output.cast())
    }
}

/// # Safety
///
/// `closure` comes from [`checkpoint`], `input` is a tensor that is handed over, and
/// `error` has `size` bytes.
#[allow(unsafe_code)]
unsafe extern "C" fn call(closure: Raw, input: Raw, error: *mut c_char, size: usize) -> Raw {
    let run = || {
        // SAFETY: as the caller promises.
        let (segment, input) =
            unsafe { (&*closure.cast::<Segment>(), Tensor::from_ptr(input.cast())) };
        let mut output = segment(&input);
        let pointer: Raw = output.as_mut_ptr().cast();
        // The tensor goes over to the caller.
        std::mem::forget(output);
        pointer
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a segment panicked");
        let length = message.len().min(size.saturating_sub(1));
        // SAFETY: `length + 1 <= size` bytes are written.
        unsafe {
            std::ptr::copy_nonoverlapping(message.as_ptr().cast(), error, length);
            *error.add(length) = 0;
        }
        std::ptr::null_mut()
    })
}

/// # Safety
///
/// `closure` comes from [`checkpoint`] and is not used again.
#[allow(unsafe_code)]
unsafe extern "C" fn drop_segment(closure: Raw) {
    // SAFETY: as the caller promises. What a panicking destructor leaves is leaked.
    let _ = catch_unwind(|| unsafe { drop(Box::from_raw(closure.cast::<Segment>())) });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use cistron_draws::seeded;
    use tch::{Device, Kind};

    fn leaf(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    #[test]
    fn gradients_are_those_of_the_plain_graph() {
        let _held = seeded(1);
        let (x, w, other) = (leaf(&[5, 4]), leaf(&[4, 4]), leaf(&[4]));
        let run = |x: &Tensor, w: &Tensor| x.matmul(w).tanh().matmul(w);
        let gradients = |y: Tensor| {
            (y.square() + &other).sum(Kind::Float).backward();
            [&x, &w, &other].map(|leaf| {
                let mut leaf = leaf.shallow_clone();
                let gradient = leaf.grad().copy();
                leaf.zero_grad();
                gradient
            })
        };
        let plain = gradients(run(&(&x * 2.0), &w));
        let runs = Arc::new(AtomicUsize::new(0));
        let (counter, weight) = (Arc::clone(&runs), w.shallow_clone());
        let y = checkpoint(&(&x * 2.0), &[&w], move |x| {
            counter.fetch_add(1, Ordering::Relaxed);
            run(x, &weight)
        });
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        let again = gradients(y);
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!(
            Arc::strong_count(&runs),
            1,
            "the segment is dropped with its node"
        );
        for (plain, again) in plain.iter().zip(&again) {
            assert_eq!(plain, again);
        }
    }

    #[test]
    fn a_panic_in_the_backward_pass_is_an_error() {
        let _held = seeded(2);
        let x = leaf(&[3]);
        let first = AtomicUsize::new(0);
        let y = checkpoint(&x, &[], move |x| {
            assert!(first.fetch_add(1, Ordering::Relaxed) == 0, "no second run");
            x * 2.0
        });
        let error = y.sum(Kind::Float).f_backward().expect_err("the panic");
        assert!(error.to_string().contains("no second run"), "{error}");
    }
}
