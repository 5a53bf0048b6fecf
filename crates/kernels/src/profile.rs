//! libtorch's own profiler.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tch::Device;

#[allow(unsafe_code)]
mod ffi {
    use super::c_char;

    unsafe extern "C" {
        pub fn cistron_profile_start(gpu: bool, error: *mut c_char, size: usize) -> bool;
        pub fn cistron_profile_stop(path: *const c_char, error: *mut c_char, size: usize) -> bool;
    }
}

/// Runs `work` and writes what ran when on `device` (of the CPU, on this thread) to `path`: a trace in
/// Chrome's format (JSON), as Perfetto and chrome://tracing open it.
///
/// # Errors
///
/// The profiler's, or that of the file.
pub fn profile<T>(device: Device, path: &Path, work: impl FnOnce() -> T) -> Result<T, String> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let mut error = [0 as c_char; 1024];
    let size = error.len();
    // SAFETY: the buffer has `size` bytes.
    #[allow(unsafe_code)]
    let done = unsafe { ffi::cistron_profile_start(device.is_cuda(), error.as_mut_ptr(), size) };
    check(done, &error)?;
    let result = work();
    // SAFETY: the path ends with NUL, the buffer has `size` bytes.
    #[allow(unsafe_code)]
    let done = unsafe { ffi::cistron_profile_stop(path.as_ptr(), error.as_mut_ptr(), size) };
    check(done, &error)?;
    Ok(result)
}

fn check(done: bool, error: &[c_char]) -> Result<(), String> {
    if done {
        return Ok(());
    }
    // SAFETY: the shim's message ends with NUL within the buffer.
    #[allow(unsafe_code)]
    let message = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(message.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn a_trace_names_what_ran() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let sum = profile(Device::Cpu, &path, || {
            Tensor::ones([3], (Kind::Float, Device::Cpu)).sum(Kind::Float)
        });
        assert_eq!(sum.unwrap().double_value(&[]), 3.0);
        let trace = std::fs::read_to_string(path).unwrap();
        assert!(trace.contains("aten::sum"), "{trace}");
    }
}
