//! Ranks on GPUs, over libtorch's own NCCL process group and its TCP store.
//!
//! The C side is `kernels/nccl/`: a shared object within the binary, which is opened when a
//! group is joined. Builds that found no `nccl.h` have none.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tch::Tensor;

use crate::runtime;

type Raw = *mut c_void;

/// Why ranks cannot work together.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NcclError(String);

/// What all ranks do with a tensor of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Every value becomes its sum over the ranks.
    Sum,
    /// The same, but each rank gets its own part alone: the tensor in equal parts by rank.
    SumParts,
    /// Each rank gets the parts of all others.
    Gather,
}

/// Where ranks meet, and which one this is.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// Host of the store.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether this process opens the store.
    pub serve: bool,
    /// What sets this run apart from others at the same store.
    pub prefix: String,
    /// This rank.
    pub rank: u64,
    /// Number of ranks.
    pub world: u64,
    /// Index of this rank's GPU.
    pub device: usize,
    /// How long to wait for others, when joining and in an exchange.
    pub timeout: Duration,
}

/// The functions of `kernels/nccl/table.h`, in its order.
#[repr(C)]
struct Table {
    join: unsafe extern "C" fn(
        *const c_char,
        u16,
        bool,
        *const c_char,
        c_int,
        c_int,
        c_int,
        i64,
        *mut c_char,
        usize,
    ) -> Raw,
    leave: unsafe extern "C" fn(Raw),
    start: unsafe extern "C" fn(Raw, c_int, Raw, *mut c_char, usize) -> Raw,
    wait: unsafe extern "C" fn(Raw, *mut c_char, usize) -> bool,
    put: unsafe extern "C" fn(Raw, *const c_char, *const c_char, *mut c_char, usize) -> bool,
    get: unsafe extern "C" fn(Raw, *const c_char, *mut c_char, usize, *mut c_char, usize) -> bool,
}

/// Whether this build can join ranks on GPUs.
pub fn built() -> bool {
    cfg!(cistron_nccl)
}

/// Ranks that have met. Handles are shared: the group ends with the last one.
#[derive(Debug, Clone)]
pub struct Group(Arc<Handle>);

struct Handle {
    table: &'static Table,
    group: Raw,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NCCL group")
    }
}

// SAFETY: libtorch's process group locks what its functions change, and is called from
// several threads by libtorch itself.
#[allow(unsafe_code)]
unsafe impl Send for Handle {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Handle {}

impl Group {
    /// Meets the other ranks; returns when all are at the store.
    ///
    /// # Errors
    ///
    /// The build has no NCCL, CUDA cannot be used, or the others do not come in time.
    pub fn join(meeting: &Meeting) -> Result<Self, NcclError> {
        let table = table()?;
        let text = |text: &str| CString::new(text).map_err(|error| NcclError(error.to_string()));
        let (host, prefix) = (text(&meeting.host)?, text(&meeting.prefix)?);
        let number = |n: u64| c_int::try_from(n).unwrap_or(c_int::MAX);
        let milliseconds = i64::try_from(meeting.timeout.as_millis()).unwrap_or(i64::MAX);
        // SAFETY: the texts end with NUL and live through the call.
        #[allow(unsafe_code)]
        let group = pointer(|error, size| unsafe {
            (table.join)(
                host.as_ptr(),
                meeting.port,
                meeting.serve,
                prefix.as_ptr(),
                number(meeting.rank),
                number(meeting.world),
                number(meeting.device as u64),
                milliseconds,
                error,
                size,
            )
        })?;
        Ok(Self(Arc::new(Handle { table, group })))
    }

    /// Queues an exchange of a flat tensor, in place, behind what the device has to do; the
    /// host does not wait. The parts of a rank need a size that the number of ranks divides.
    ///
    /// # Errors
    ///
    /// What NCCL says.
    pub fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, NcclError> {
        let exchange = match exchange {
            Exchange::Sum => 0,
            Exchange::SumParts => 1,
            Exchange::Gather => 2,
        };
        let mut tensor = tensor.shallow_clone();
        // SAFETY: group and tensor live through the call, which keeps a handle of its own.
        #[allow(unsafe_code)]
        let work = pointer(|error, size| unsafe {
            let tensor = tensor.as_mut_ptr().cast();
            (self.0.table.start)(self.0.group, exchange, tensor, error, size)
        })?;
        Ok(Pending {
            group: Arc::clone(&self.0),
            work,
        })
    }

    /// Keeps text at the store.
    ///
    /// # Errors
    ///
    /// The store cannot be reached.
    pub fn put(&self, key: &str, value: &str) -> Result<(), NcclError> {
        let text = |text: &str| CString::new(text).map_err(|error| NcclError(error.to_string()));
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: the texts end with NUL and live through the call, as does the group.
        #[allow(unsafe_code)]
        done(|error, size| unsafe {
            (self.0.table.put)(self.0.group, key.as_ptr(), value.as_ptr(), error, size)
        })
    }

    /// Text that a rank has kept, or will.
    ///
    /// # Errors
    ///
    /// It does not come in time.
    pub fn get(&self, key: &str) -> Result<String, NcclError> {
        let key = CString::new(key).map_err(|error| NcclError(error.to_string()))?;
        let mut value = [0 as c_char; 1024];
        // SAFETY: the C side writes at most `len` bytes and ends them with NUL.
        #[allow(unsafe_code)]
        done(|error, size| unsafe {
            let (at, room) = (value.as_mut_ptr(), value.len());
            (self.0.table.get)(self.0.group, key.as_ptr(), at, room, error, size)
        })?;
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let value = unsafe { CStr::from_ptr(value.as_ptr()) };
        Ok(value.to_string_lossy().into_owned())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again.
        #[allow(unsafe_code)]
        unsafe {
            (self.table.leave)(self.group);
        }
    }
}

/// An exchange that is under way.
#[derive(Debug)]
#[must_use = "the result is there after `wait`"]
pub struct Pending {
    group: Arc<Handle>,
    work: Raw,
}

// SAFETY: the handle of an exchange may be waited for on any thread, and is so once.
#[allow(unsafe_code)]
unsafe impl Send for Pending {}

impl Pending {
    /// Makes what is queued on the device from now on wait for the result; the host does not.
    ///
    /// # Errors
    ///
    /// The exchange has failed.
    pub fn wait(mut self) -> Result<(), NcclError> {
        let work = std::mem::replace(&mut self.work, std::ptr::null_mut());
        // SAFETY: the handle is live, and the C side frees it.
        #[allow(unsafe_code)]
        done(|error, size| unsafe { (self.group.table.wait)(work, error, size) })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.work.is_null() {
            let work = std::mem::replace(&mut self.work, std::ptr::null_mut());
            // SAFETY: the handle is live, and the C side frees it.
            #[allow(unsafe_code)]
            let _ = done(|error, size| unsafe { (self.group.table.wait)(work, error, size) });
        }
    }
}

#[cfg(cistron_nccl)]
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libcistron_nccl.so"));
#[cfg(not(cistron_nccl))]
static OBJECT: &[u8] = &[];

#[allow(unsafe_code)]
mod ffi {
    use super::{c_char, c_void};
    unsafe extern "C" {
        pub fn cistron_open_object(
            bytes: *const u8,
            count: usize,
            name: *const c_char,
            error: *mut c_char,
            size: usize,
        ) -> *const c_void;
    }
}

/// Opens the shared object, once.
fn table() -> Result<&'static Table, NcclError> {
    static TABLE: OnceLock<Result<&'static Table, NcclError>> = OnceLock::new();
    let open = || {
        if !built() {
            return Err(NcclError(
                "this build has no NCCL; build it where nvcc and nccl.h are found".into(),
            ));
        }
        if let Some(problem) = runtime::cuda_problem() {
            return Err(NcclError(problem));
        }
        let name = c"cistron_nccl_table";
        // SAFETY: the bytes live for ever; the name ends with NUL; the function of that name
        // takes nothing and returns a table that lives for ever.
        #[allow(unsafe_code)]
        unsafe {
            let table = pointer(|error, size| {
                ffi::cistron_open_object(OBJECT.as_ptr(), OBJECT.len(), name.as_ptr(), error, size)
                    .cast_mut()
            })?;
            Ok(&*table.cast::<Table>())
        }
    };
    TABLE.get_or_init(open).clone()
}

/// Calls the C side, which returns null and leaves a message when it fails.
fn pointer(body: impl FnOnce(*mut c_char, usize) -> Raw) -> Result<Raw, NcclError> {
    let mut output = std::ptr::null_mut();
    done(|error, size| {
        output = body(error, size);
        !output.is_null()
    })?;
    Ok(output)
}

/// Calls the C side, which writes at most `size` bytes of a message and ends them with NUL.
fn done(body: impl FnOnce(*mut c_char, usize) -> bool) -> Result<(), NcclError> {
    let mut error = [0 as c_char; 1024];
    if body(error.as_mut_ptr(), error.len()) {
        return Ok(());
    }
    // SAFETY: the message ends with NUL within the buffer.
    #[allow(unsafe_code)]
    let message = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy();
    let first = message.lines().next().unwrap_or_default();
    Err(NcclError(first.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_gpus_there_is_a_reason() {
        if runtime::cuda_problem().is_none() && built() {
            return;
        }
        let meeting = Meeting {
            host: "127.0.0.1".into(),
            port: 1,
            serve: false,
            prefix: "test".into(),
            rank: 0,
            world: 1,
            device: 0,
            timeout: Duration::from_secs(1),
        };
        let error = Group::join(&meeting).unwrap_err().to_string();
        assert!(
            error.contains("NCCL") || error.contains("driver"),
            "{error}"
        );
    }
}
