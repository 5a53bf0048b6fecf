//! The running libtorch: version, threads, devices.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Cuda, Device};

#[allow(unsafe_code)]
mod ffi {
    use super::c_char;
    unsafe extern "C" {
        pub fn cistron_torch_version() -> *const c_char;
        pub fn cistron_kernels_built() -> bool;
        pub fn cistron_keep_memory();
        pub fn cistron_load_cuda(error: *mut c_char, size: usize) -> bool;
        pub fn cistron_driver_present() -> bool;
        pub fn cistron_cuda_version(error: *mut c_char, size: usize) -> i64;
        pub fn cistron_allow_tf32(allow: bool);
        pub fn cistron_peak_memory(
            device: i64,
            reset: bool,
            error: *mut c_char,
            size: usize,
        ) -> i64;
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of `auto`, `cpu`, `cuda`, `cuda:N`.
    #[error("unknown device '{0}': expected auto, cpu, cuda or cuda:N")]
    Name(String),
    /// CUDA was asked for and is not usable.
    #[error("device '{name}' is not usable: {reason}; use --device cpu, or see `cistron doctor`")]
    Unusable {
        /// The device as asked for.
        name: String,
        /// What stands in the way.
        reason: String,
    },
}

/// Version of the libtorch that this build was compiled against, e.g. `2.11.0`.
pub fn torch_version() -> &'static str {
    // SAFETY: the function returns a string literal.
    #[allow(unsafe_code)]
    let version = unsafe { CStr::from_ptr(ffi::cistron_torch_version()) };
    version.to_str().unwrap_or("unknown")
}

/// Whether this build has CUDA kernels of its own; without them GPUs use libtorch's operators.
pub fn kernels_built() -> bool {
    // SAFETY: the function returns a constant.
    #[allow(unsafe_code)]
    unsafe {
        ffi::cistron_kernels_built()
    }
}

static JOINED: AtomicBool = AtomicBool::new(true);

/// Whether operators that join several run as one on a GPU, for the whole process. They do,
/// unless told otherwise: a comparison, or a doubt, wants the single ones.
pub fn join_operators(on: bool) {
    JOINED.store(on, Ordering::Relaxed);
}

/// What [`join_operators`] was told last.
pub fn operators_joined() -> bool {
    JOINED.load(Ordering::Relaxed)
}

/// The folder of the libtorch in use, where the system tells (Linux).
pub fn torch_folder() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = &path[path.find('/')?..];
    Some(path.trim_end_matches("/libtorch_cpu.so").to_owned())
}

/// Makes the C allocator keep freed memory, which libtorch's operators ask for again
/// at once. Call it before any other thread starts.
pub fn keep_memory() {
    // SAFETY: the function sets allocator options and touches no memory of ours.
    #[allow(unsafe_code)]
    unsafe {
        ffi::cistron_keep_memory();
    }
}

/// Loads libtorch's CUDA half, once. The reason is kept when it cannot be had.
fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            // SAFETY: the function takes no argument and touches no memory of ours.
            #[allow(unsafe_code)]
            let driver = unsafe { ffi::cistron_driver_present() };
            if !driver {
                return Err("no NVIDIA driver (libcuda.so.1 is not found)".into());
            }
            let mut error = [0 as c_char; 1024];
            // SAFETY: the shim writes at most `len` bytes and ends them with NUL.
            #[allow(unsafe_code)]
            let (loaded, message) = unsafe {
                let loaded = ffi::cistron_load_cuda(error.as_mut_ptr(), error.len());
                (
                    loaded,
                    CStr::from_ptr(error.as_ptr())
                        .to_string_lossy()
                        .into_owned(),
                )
            };
            if !loaded {
                return Err(format!("libtorch's CUDA half cannot be loaded: {message}"));
            }
            if Cuda::is_available() {
                Ok(())
            } else {
                Err("libtorch sees no CUDA device".into())
            }
        })
        .clone()
}

/// Why CUDA cannot be used, or nothing when it can.
pub fn cuda_problem() -> Option<String> {
    load_cuda().err()
}

/// Number of usable CUDA devices.
pub fn cuda_devices() -> i64 {
    if load_cuda().is_ok() {
        Cuda::device_count()
    } else {
        0
    }
}

/// CUDA version libtorch was built with, as (major, minor).
pub fn cuda_version() -> Option<(i64, i64)> {
    load_cuda().ok()?;
    let mut error = [0 as c_char; 1024];
    // SAFETY: as in `load_cuda`.
    #[allow(unsafe_code)]
    let version = unsafe { ffi::cistron_cuda_version(error.as_mut_ptr(), error.len()) };
    (version > 0).then_some((version / 1000, version % 1000 / 10))
}

/// Whether products of fp32 matrices on a GPU round their inputs to TF32 (10 bits of
/// mantissa) and run on tensor cores; for the whole process. Off at the start.
pub fn allow_tf32(allow: bool) {
    // SAFETY: the function sets an option of libtorch and touches no memory of ours.
    #[allow(unsafe_code)]
    unsafe {
        ffi::cistron_allow_tf32(allow);
    }
}

/// The most bytes that tensors on a GPU have held since the last reset; none elsewhere.
pub fn peak_memory(device: Device, reset: bool) -> Option<u64> {
    let Device::Cuda(index) = device else {
        return None;
    };
    let mut error = [0 as c_char; 1024];
    // SAFETY: as in `load_cuda`.
    #[allow(unsafe_code)]
    let bytes =
        unsafe { ffi::cistron_peak_memory(index as i64, reset, error.as_mut_ptr(), error.len()) };
    u64::try_from(bytes).ok()
}

/// Resolves `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first GPU, else the CPU.
///
/// # Errors
///
/// An unknown name, or CUDA asked for where it cannot be had.
pub fn resolve_device(name: &str) -> Result<Device, DeviceError> {
    let unusable = |reason| DeviceError::Unusable {
        name: name.to_owned(),
        reason,
    };
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => {
            return Ok(if load_cuda().is_ok() {
                Device::Cuda(0)
            } else {
                Device::Cpu
            });
        }
        "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .ok_or_else(|| DeviceError::Name(name.to_owned()))?,
    };
    load_cuda().map_err(unusable)?;
    let devices = Cuda::device_count();
    if index as i64 >= devices {
        return Err(unusable(format!(
            "this machine has {devices} CUDA device(s)"
        )));
    }
    Ok(Device::Cuda(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_say_why_not() {
        assert_eq!(resolve_device("cpu").expect("cpu"), Device::Cpu);
        assert!(matches!(resolve_device("gpu"), Err(DeviceError::Name(_))));
        assert!(resolve_device("cuda:99").is_err());
        assert!(torch_version().starts_with("2."));
    }
}
