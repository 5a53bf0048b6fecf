//! Small lists on their way to a device.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Device, Tensor};

use crate::device;

#[allow(unsafe_code)]
mod ffi {
    use super::{c_char, c_int, c_void};
    unsafe extern "C" {
        pub fn cistron_upload(
            list: *const i64,
            count: i64,
            index: c_int,
            error: *mut c_char,
            size: usize,
        ) -> *mut c_void;
    }
}

/// A copy of `values` in memory of the host that GPUs copy from without waiting.
///
/// # Panics
///
/// When there is no GPU, or memory runs out.
pub fn pin(values: &Tensor) -> Tensor {
    let [pinned] = device::call(device::cistron_pin, &[Some(values)], &[]);
    pinned
}

/// A list of numbers on `device`: i64. A copy from ordinary memory would wait until the
/// device has done all that it was asked before; this one does not.
///
/// # Panics
///
/// When memory runs out.
pub fn upload(list: &[i64], device: Device) -> Tensor {
    let Device::Cuda(index) = device else {
        return Tensor::from_slice(list).to_device(device);
    };
    let mut error = [0 as c_char; 1024];
    // SAFETY: the list lives through the call, which copies it; the shim writes at most
    // `len` bytes and ends them with NUL; a pointer that is not null is a new tensor of ours.
    #[allow(unsafe_code)]
    unsafe {
        let output = ffi::cistron_upload(
            list.as_ptr(),
            list.len() as i64,
            index as c_int,
            error.as_mut_ptr(),
            error.len(),
        );
        assert!(
            !output.is_null(),
            "a copy to the device: {}",
            CStr::from_ptr(error.as_ptr()).to_string_lossy()
        );
        Tensor::from_ptr(output.cast())
    }
}
