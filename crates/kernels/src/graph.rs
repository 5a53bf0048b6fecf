//! CUDA graphs: work of fixed shapes is recorded once and replayed with one launch.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Device;

#[allow(unsafe_code)]
mod ffi {
    use super::{c_char, c_int, c_void};
    unsafe extern "C" {
        pub fn cistron_graph_enter(
            index: c_int,
            out: *mut *mut c_void,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_graph_begin(graph: *mut c_void, error: *mut c_char, size: usize) -> bool;
        pub fn cistron_graph_end(graph: *mut c_void, error: *mut c_char, size: usize) -> bool;
        pub fn cistron_graph_leave(graph: *mut c_void);
        pub fn cistron_graph_replay(graph: *mut c_void, error: *mut c_char, size: usize) -> bool;
        pub fn cistron_graph_free(graph: *mut c_void);
    }
}

/// Why work could not be recorded or replayed.
#[derive(Debug, thiserror::Error)]
#[error("CUDA graph: {0}")]
pub struct GraphError(String);

/// Recorded work on one device.
///
/// A replay reads and writes the memory that the recording did: what goes in is copied into
/// tensors that live as long as the graph.
#[derive(Debug)]
pub struct Graph(*mut c_void);

impl Graph {
    /// Runs `work` once, so that kernels are loaded and workspaces are there, and records it while
    /// it runs again. Returns what it gave while recording, which every replay fills anew.
    ///
    /// `work` must do the same each time, keep every tensor it changes, and ask nothing of the
    /// device: shapes and control flow are those of the recording.
    ///
    /// # Errors
    ///
    /// `device` is no CUDA device, the build has no kernels, or CUDA refuses the recording.
    pub fn record<T>(device: Device, mut work: impl FnMut() -> T) -> Result<(Self, T), GraphError> {
        let Device::Cuda(index) = device else {
            return Err(GraphError(format!("{device:?} records nothing")));
        };
        let mut graph = null_mut();
        // SAFETY: `graph` outlives the call; the C side fills it on success.
        #[allow(unsafe_code)]
        call(|error, size| unsafe {
            ffi::cistron_graph_enter(index as c_int, &raw mut graph, error, size)
        })?;
        let graph = Self(graph);
        let leave = Leave(&graph);
        drop(work());
        // SAFETY: the handle is live, here and below.
        #[allow(unsafe_code)]
        call(|error, size| unsafe { ffi::cistron_graph_begin(graph.0, error, size) })?;
        // A refused operator panics; the recording must end before anything else can run.
        let out = catch_unwind(AssertUnwindSafe(work));
        #[allow(unsafe_code)]
        call(|error, size| unsafe { ffi::cistron_graph_end(graph.0, error, size) })?;
        drop(leave);
        out.map(|out| (graph, out))
            .map_err(|_| GraphError("an operator cannot be recorded".into()))
    }

    /// Runs the recorded work again, in the order of the current stream; does not wait for it.
    ///
    /// # Errors
    ///
    /// CUDA refuses the launch.
    pub fn replay(&self) -> Result<(), GraphError> {
        // SAFETY: the handle is live.
        #[allow(unsafe_code)]
        call(|error, size| unsafe { ffi::cistron_graph_replay(self.0, error, size) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again.
        #[allow(unsafe_code)]
        unsafe {
            ffi::cistron_graph_free(self.0);
        }
    }
}

/// Makes the stream current again that was so before the recording.
struct Leave<'a>(&'a Graph);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live.
        #[allow(unsafe_code)]
        unsafe {
            ffi::cistron_graph_leave(self.0.0);
        }
    }
}

fn call(run: impl FnOnce(*mut c_char, usize) -> bool) -> Result<(), GraphError> {
    let mut error = [0 as c_char; 1024];
    if run(error.as_mut_ptr(), error.len()) {
        return Ok(());
    }
    // SAFETY: the C side ends the message with NUL.
    #[allow(unsafe_code)]
    let message = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(GraphError(message.to_string_lossy().into_owned()))
}
