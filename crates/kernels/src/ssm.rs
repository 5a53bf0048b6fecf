//! State-space scans of packed sequences on CUDA, in bf16: the C side is
//! `kernels/ops/scan.cpp`. [`crate::scan`] holds the plain form.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use tch::{Kind, Tensor};

use crate::Layout;

type Pointer = *mut c_void;

#[allow(unsafe_code)]
mod ffi {
    use super::{Pointer, c_char};
    unsafe extern "C" {
        pub fn cistron_scan_plan(
            lengths: *const i64,
            count: usize,
            heads: i64,
            rank: i64,
            device: i32,
            items: *mut Pointer,
            first_item: *mut Pointer,
            chunks: *mut i64,
            error: *mut c_char,
            size: usize,
        ) -> bool;
        pub fn cistron_scan_supported(head_dim: i64, state: i64, rank: i64, angles: i64) -> bool;
        pub fn cistron_scan(
            inputs: *const Pointer,
            items: Pointer,
            first_item: Pointer,
            chunks: i64,
            keep: bool,
            y: *mut Pointer,
            last: *mut Pointer,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

/// How the sequences of a layout are cut into runs of tokens that are scanned side by side.
#[derive(Debug)]
pub struct Plan {
    pub(crate) items: Tensor,
    pub(crate) first_item: Tensor,
    pub(crate) chunks: i64,
}

/// Inputs of a scan over packed tokens. With log-decay `a`, per head:
///
/// `y_t = Σ_{s<t} e^{a_{s+1} + … + a_t} w_s (c_t · b_s) x_s + γ_t (c_t · b_t) x_t + …`
///
/// to which come the skip `D x_t` and what remains of the initial state. Mamba-2 has
/// `w = γ = Δ`.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// `[tokens, heads, rank, head_dim]`, bf16.
    pub x: &'a Tensor,
    /// Input projection `[tokens, rank, groups, state]`, bf16.
    pub b: &'a Tensor,
    /// Output projection, like `b`.
    pub c: &'a Tensor,
    /// Biases and rotation of Mamba-3.
    pub turn: Option<Turn<'a>>,
    /// `a ≤ 0`: `[tokens, heads]`, fp32.
    pub log_decay: &'a Tensor,
    /// `w`, weight in every later state: `[tokens, heads]`, fp32.
    pub weight: &'a Tensor,
    /// `γ`, weight in a token's own output: `[tokens, heads]`, fp32.
    pub gamma: &'a Tensor,
    /// `D`: `[heads]`.
    pub skip: Option<&'a Tensor>,
    /// State before the first token of each sequence: `[sequences, heads, head_dim, state]`, fp32.
    pub initial: Option<&'a Tensor>,
}

/// Biases and angles: `b` and `c` are shifted, then turned in pairs of neighbouring
/// channels by the angles `φ_t = Σ_{s≤t} Δ_s θ_s`.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// `[heads, rank, state]`, fp32.
    pub b_bias: &'a Tensor,
    /// `[heads, rank, state]`, fp32.
    pub c_bias: &'a Tensor,
    /// `θ`: `[tokens, angles]`, fp32.
    pub theta: &'a Tensor,
    /// `Δ`: `[tokens, heads]`, fp32.
    pub delta: &'a Tensor,
}

/// Sizes that [`Scan::run`] has a kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Channels a head.
    pub head_dim: i64,
    /// State size of each channel.
    pub state: i64,
    /// Inputs of a head at each token; 1 but for Mamba-3 MIMO.
    pub rank: i64,
    /// Whether B and C turn: Mamba-3.
    pub turns: bool,
}

/// All sizes with a kernel on the current CUDA device; none without one.
pub fn sizes() -> Vec<Size> {
    let mut sizes = Vec::new();
    for turns in [false, true] {
        for rank in 1..=8 {
            for head_dim in (8..=256).step_by(8) {
                for state in (8..=256).step_by(8) {
                    let angles = if turns { 0 } else { -1 };
                    // SAFETY: the function takes numbers and touches no memory of ours.
                    #[allow(unsafe_code)]
                    if unsafe { ffi::cistron_scan_supported(head_dim, state, rank, angles) } {
                        sizes.push(Size {
                            head_dim,
                            state,
                            rank,
                            turns,
                        });
                    }
                }
            }
        }
    }
    sizes
}

/// Whether [`Scan::run`] has a kernel: on CUDA in bf16, for the compiled sizes.
///
/// `angles` is the number of turned pairs, none for Mamba-2.
pub fn supported(x: &Tensor, state: i64, angles: Option<i64>) -> bool {
    let size = x.size();
    let (rank, head_dim) = (size[size.len() - 2], size[size.len() - 1]);
    x.device().is_cuda() && x.kind() == Kind::BFloat16 && compiled(head_dim, state, rank, angles)
}

/// Whether there is a kernel for these sizes; `angles` as for [`supported`].
pub fn compiled(head_dim: i64, state: i64, rank: i64, angles: Option<i64>) -> bool {
    angles.is_none_or(|angles| angles <= state / 2)
        // SAFETY: the function takes numbers and touches no memory of ours.
        && {
            #[allow(unsafe_code)]
            unsafe {
                ffi::cistron_scan_supported(head_dim, state, rank, angles.unwrap_or(-1))
            }
        }
}

// SAFETY: a plan's index tensors are only read once it is made, as those of a layout.
#[allow(unsafe_code)]
unsafe impl Sync for Plan {}

fn message(error: &[c_char]) -> String {
    // SAFETY: the shim ends its message with NUL within the buffer.
    #[allow(unsafe_code)]
    unsafe { CStr::from_ptr(error.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

/// Takes over a tensor that the shim made.
fn take(pointer: Pointer) -> Tensor {
    // SAFETY: the shim hands out new tensors, once.
    #[allow(unsafe_code)]
    unsafe {
        Tensor::from_ptr(pointer.cast())
    }
}

impl Plan {
    pub(crate) fn new(layout: &Layout, heads: i64, rank: i64) -> Self {
        let device = match layout.device() {
            tch::Device::Cuda(index) => index as i32,
            other => panic!("scans are planned for CUDA devices, not {other:?}"),
        };
        let (mut items, mut first_item, mut chunks) = (null_mut(), null_mut(), 0);
        let mut error = [0 as c_char; 1024];
        // SAFETY: the lengths live through the call, and the results are written once.
        #[allow(unsafe_code)]
        let done = unsafe {
            ffi::cistron_scan_plan(
                layout.lengths().as_ptr(),
                layout.lengths().len(),
                heads,
                rank,
                device,
                &raw mut items,
                &raw mut first_item,
                &raw mut chunks,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        assert!(done, "scan plan: {}", message(&error));
        Self {
            items: take(items),
            first_item: take(first_item),
            chunks,
        }
    }
}

impl Scan<'_> {
    /// `y` `[tokens, heads, rank, head_dim]` in bf16 and, when asked to `keep` it, the
    /// state after each sequence, fp32 `[sequences, heads, head_dim, state]`; its channels
    /// are turned back by the last angle of the sequence.
    ///
    /// # Panics
    ///
    /// Where [`supported`] does not hold, or on a CUDA error.
    pub fn run(&self, layout: &Layout, keep: bool) -> (Tensor, Option<Tensor>) {
        let size = self.x.size();
        let plan = layout.scan_plan(size[1], size[2]);
        let pointer = |tensor: &Tensor| tensor.as_ptr().cast_mut().cast::<c_void>();
        let optional = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), pointer);
        let turn = |pick: fn(&Turn<'_>) -> *mut c_void| self.turn.as_ref().map_or(null_mut(), pick);
        let inputs = [
            pointer(self.x),
            pointer(self.b),
            pointer(self.c),
            turn(|turn| turn.b_bias.as_ptr().cast_mut().cast()),
            turn(|turn| turn.c_bias.as_ptr().cast_mut().cast()),
            turn(|turn| turn.theta.as_ptr().cast_mut().cast()),
            turn(|turn| turn.delta.as_ptr().cast_mut().cast()),
            pointer(self.log_decay),
            pointer(self.weight),
            pointer(self.gamma),
            optional(self.skip),
            optional(self.initial),
        ];
        let (mut y, mut last) = (null_mut(), null_mut());
        let mut error = [0 as c_char; 1024];
        // SAFETY: the tensors live through the call, and the results are written once.
        #[allow(unsafe_code)]
        let done = unsafe {
            ffi::cistron_scan(
                inputs.as_ptr(),
                pointer(&plan.items),
                pointer(&plan.first_item),
                plan.chunks,
                keep,
                &raw mut y,
                &raw mut last,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        assert!(done, "scan: {}", message(&error));
        let last = take(last);
        (take(y), keep.then_some(last))
    }
}
