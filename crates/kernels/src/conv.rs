//! Causal depthwise convolution over packed sequences.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use tch::{Kind, Tensor};

use crate::{Layout, runtime, upload};

#[allow(unsafe_code)]
mod ffi {
    use super::{c_char, c_void};
    unsafe extern "C" {
        pub fn cistron_conv(
            x: *const c_void,
            weight: *const c_void,
            bias: *const c_void,
            position: *const c_void,
            offsets: *const c_void,
            tail: *const c_void,
            y: *mut *mut c_void,
            error: *mut c_char,
            size: usize,
        ) -> bool;
    }
}

/// [`causal_conv1d_silu`] of packed sequences: `x` `[tokens, channels]` to the same.
///
/// In bf16 on CUDA this is one kernel, for widths of 2 to 4 and a multiple of 8 channels;
/// elsewhere the padded plain form.
///
/// # Panics
///
/// On a CUDA error.
pub fn packed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    tail: Option<&Tensor>,
    layout: &Layout,
) -> Tensor {
    let width = weight.size()[2];
    let fast = runtime::kernels_built()
        && x.device().is_cuda()
        && x.kind() == Kind::BFloat16
        && x.size()[1] % 8 == 0
        && (2..=4).contains(&width);
    if !fast {
        let (y, _) = causal_conv1d_silu(&layout.pad(x), weight, bias, tail);
        return layout.unpad(&y);
    }
    let pointer = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
    let mut y = null_mut();
    let mut error = [0 as c_char; 1024];
    // SAFETY: the tensors live through the call; `y` becomes a new tensor of ours, and the
    // message ends with NUL within the buffer.
    #[allow(unsafe_code)]
    unsafe {
        let done = ffi::cistron_conv(
            pointer(x),
            pointer(weight),
            pointer(bias),
            pointer(layout.positions()),
            pointer(layout.starts()),
            tail.map_or(null_mut(), pointer),
            &raw mut y,
            error.as_mut_ptr(),
            error.len(),
        );
        assert!(
            done,
            "convolution: {}",
            CStr::from_ptr(error.as_ptr()).to_string_lossy()
        );
        Tensor::from_ptr(y.cast())
    }
}

/// The last `width - 1` inputs of every packed sequence: `[sequences, width - 1, channels]`,
/// the `tail` for what follows `x`.
pub fn packed_tail(x: &Tensor, tail: Option<&Tensor>, layout: &Layout, width: i64) -> Tensor {
    let (rows, channels) = (width - 1, x.size()[1]);
    let shape = [layout.sequences(), rows, channels];
    let zeros = || Tensor::zeros(shape, (Kind::Float, x.device()));
    let before = tail.map_or_else(zeros, |tail| tail.to_kind(Kind::Float));
    // Rows of all earlier inputs, then of `x`.
    let mut index = Vec::with_capacity((layout.sequences() * rows) as usize);
    for (row, (&length, &offset)) in (0i64..).zip(layout.lengths().iter().zip(layout.offsets())) {
        index.extend((length - rows..length).map(|position| {
            if position < 0 {
                row * rows + rows + position
            } else {
                layout.sequences() * rows + offset + position
            }
        }));
    }
    let old = layout.sequences() * rows;
    let index = upload(&index, x.device());
    let recent = index.ge(old);
    let from_x = match layout.total() {
        0 => before.reshape([-1, channels]),
        _ => x
            .index_select(0, &(&index - old).clamp_min(0))
            .to_kind(Kind::Float),
    };
    let from_tail = before
        .reshape([-1, channels])
        .index_select(0, &index.clamp_max(old - 1));
    from_x
        .where_self(&recent.unsqueeze(-1), &from_tail)
        .reshape(shape)
}

/// `y[t, c] = silu(bias[c] + Σ_k weight[c, k] x[t - width + 1 + k, c])` for a padded batch.
///
/// - `x`: `[sequences, length, channels]`
/// - `weight`: `[channels, 1, width]`, `bias`: `[channels]`
/// - `tail`: `[sequences, width - 1, channels]`, the inputs before the first token
///   (zeros when absent)
///
/// Returns `y` like `x`, and the input preceded by its tail, from which [`tail`]
/// takes the next one.
pub fn causal_conv1d_silu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    tail: Option<&Tensor>,
) -> (Tensor, Tensor) {
    let (sequences, length, channels) = x.size3().expect("x is [sequences, length, channels]");
    let width = weight.size()[2];
    let extended = match tail {
        Some(tail) => Tensor::cat(&[&tail.to_kind(x.kind()), x], 1),
        None => {
            let zeros = Tensor::zeros([sequences, width - 1, channels], (x.kind(), x.device()));
            Tensor::cat(&[&zeros, x], 1)
        }
    };
    let taps = weight.squeeze_dim(1).transpose(0, 1);
    let mut y = extended.narrow(1, 0, length) * taps.get(0) + bias;
    for k in 1..width {
        y = y.addcmul(&extended.narrow(1, k, length), &taps.get(k));
    }
    (y.silu().to_kind(x.kind()), extended)
}

/// The last `width - 1` inputs of every sequence: the `tail` for what follows.
///
/// `extended` is the second result of [`causal_conv1d_silu`].
pub fn tail(extended: &Tensor, layout: &Layout, width: i64) -> Tensor {
    let channels = extended.size()[2];
    let mut index = Vec::with_capacity(layout.lengths().len() * (width - 1) as usize);
    for &length in layout.lengths() {
        index.extend(length..length + width - 1);
    }
    let index = upload(&index, extended.device())
        .reshape([layout.sequences(), width - 1, 1])
        .expand([layout.sequences(), width - 1, channels], false);
    extended.gather(1, &index, false)
}

/// One step: `x` `[rows, channels]`, `tail` `[rows, width - 1, channels]`.
///
/// Returns the output `[rows, channels]` and the new tail.
pub fn step(x: &Tensor, weight: &Tensor, bias: &Tensor, tail: &Tensor) -> (Tensor, Tensor) {
    let width = weight.size()[2];
    let window = Tensor::cat(&[&tail.to_kind(x.kind()), &x.unsqueeze(1)], 1);
    let taps = weight.squeeze_dim(1).transpose(0, 1).unsqueeze(0);
    let y = (&window * taps).sum_dim_intlist([1i64].as_slice(), false, Kind::Float) + bias;
    (y.silu().to_kind(x.kind()), window.narrow(1, 1, width - 1))
}
