//! Causal softmax attention with an optional sliding window.
//!
//! On CUDA in bf16 or fp16 libtorch's flash attention runs over packed sequences; the
//! plain form works on padded batches and is used everywhere else.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Tensor};

use crate::Layout;

#[allow(unsafe_code)]
mod ffi {
    use super::{c_char, c_void};
    unsafe extern "C" {
        pub fn cistron_flash_attention(
            q: *const c_void,
            k: *const c_void,
            v: *const c_void,
            query_offsets: *const c_void,
            key_offsets: *const c_void,
            max_query: i64,
            max_key: i64,
            window: i64,
            reproducible: bool,
            error: *mut c_char,
            size: usize,
        ) -> *mut c_void;
    }
}

static REPRODUCIBLE: AtomicBool = AtomicBool::new(false);

/// Whether gradients of flash attention have the same bits from run to run, for the whole
/// process. They have not unless asked for: it costs some time and memory.
pub fn reproducible(on: bool) {
    REPRODUCIBLE.store(on, Ordering::Relaxed);
}

/// Queries handled at once where a window makes the mask a band.
const BLOCK: i64 = 512;

/// Whether [`packed`] runs as flash attention: on CUDA, in bf16 or fp16, with heads of at
/// most 256 channels, a multiple of 8.
pub fn flash_supported(q: &Tensor) -> bool {
    let head_dim = q.size().last().copied().unwrap_or(0);
    q.device().is_cuda()
        && matches!(q.kind(), Kind::BFloat16 | Kind::Half)
        && head_dim <= 256
        && head_dim % 8 == 0
}

/// Attention of packed sequences to themselves.
///
/// - `q`, `k`, `v`: `[tokens, heads, head_dim]`, packed by `layout`
/// - `window`: the last `window + 1` keys are seen; `-1` sees all
///
/// Softmax scale `1/√head_dim`; returns the shape of `q`.
pub fn packed(q: &Tensor, k: &Tensor, v: &Tensor, layout: &Layout, window: i64) -> Tensor {
    if layout.total() > 0 && flash_supported(q) {
        return flash(q, k, v, layout, layout, window);
    }
    let padded = |t: &Tensor| layout.pad(t).transpose(1, 2);
    let y = causal(&padded(q), &padded(k), &padded(v), window);
    layout.unpad(&y.transpose(1, 2))
}

/// Flash attention of packed queries to packed keys; the last query of each sequence
/// stands at its last key.
///
/// - `q`: `[tokens, heads, head_dim]`, packed by `queries`; `k`, `v` by `keys`
///
/// # Panics
///
/// Where [`flash_supported`] does not hold, or libtorch refuses.
pub fn flash(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    queries: &Layout,
    keys: &Layout,
    window: i64,
) -> Tensor {
    let mut error = [0 as c_char; 1024];
    let pointer = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
    // SAFETY: the tensors live through the call; the shim writes at most `len` bytes and
    // ends them with NUL, and a pointer that is not null is a new tensor of ours.
    #[allow(unsafe_code)]
    unsafe {
        let output = ffi::cistron_flash_attention(
            pointer(q),
            pointer(k),
            pointer(v),
            pointer(queries.cumulative()),
            pointer(keys.cumulative()),
            queries.max(),
            keys.max(),
            window,
            REPRODUCIBLE.load(Ordering::Relaxed),
            error.as_mut_ptr(),
            error.len(),
        );
        assert!(
            !output.is_null(),
            "flash attention: {}",
            CStr::from_ptr(error.as_ptr()).to_string_lossy()
        );
        Tensor::from_ptr(output.cast())
    }
}

/// Attention of a padded batch, positions counted from the same origin in queries and keys.
///
/// - `q`: `[sequences, heads, length, head_dim]`; `k`, `v`: the same
/// - `window`: the last `window + 1` keys are seen; `-1` sees all
///
/// Softmax scale `1/√head_dim`. Padding at the end is never seen by earlier
/// queries, and what padded queries return is to be dropped.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, window: i64) -> Tensor {
    let length = q.size()[2];
    if window < 0 || window >= length - 1 {
        return sdpa(q, k, v, None, true);
    }
    let mut outputs = Vec::new();
    let mut start = 0;
    while start < length {
        let take = BLOCK.min(length - start);
        let first = (start - window).max(0);
        let keys = start + take - first;
        let query = Tensor::arange_start(start, start + take, (Kind::Int64, q.device()));
        let key = Tensor::arange_start(first, start + take, (Kind::Int64, q.device()));
        let mask = visible(&query, &key, window);
        outputs.push(sdpa(
            &q.narrow(2, start, take),
            &k.narrow(2, first, keys),
            &v.narrow(2, first, keys),
            Some(&mask),
            false,
        ));
        start += take;
    }
    Tensor::cat(&outputs, 2)
}

/// Attention of queries to keys with explicit positions.
///
/// `query_positions` `[sequences, length]`, `key_positions` `[sequences, keys]`, i64; a
/// key that is not there has position `i64::MAX`. Every query must see one key.
pub fn positioned(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    query_positions: &Tensor,
    key_positions: &Tensor,
    window: i64,
) -> Tensor {
    let mask = visible(query_positions, key_positions, window).unsqueeze(1);
    sdpa(q, k, v, Some(&mask), false)
}

/// Which keys each query sees: bool `[…, queries, keys]` from positions `[…, queries]`, `[…, keys]`.
pub fn visible(query: &Tensor, key: &Tensor, window: i64) -> Tensor {
    let (query, key) = (query.unsqueeze(-1), key.unsqueeze(-2));
    let causal = key.le_tensor(&query);
    if window < 0 {
        causal
    } else {
        causal.logical_and(&key.ge_tensor(&(query - window)))
    }
}

/// The attention matrix itself: `[sequences, heads, length, length]`, rows summing to one.
pub fn matrix(q: &Tensor, k: &Tensor, window: i64) -> Tensor {
    let length = q.size()[2];
    let position = Tensor::arange(length, (Kind::Int64, q.device()));
    let scale = 1.0 / (q.size()[3] as f64).sqrt();
    (q.matmul(&k.transpose(2, 3)) * scale)
        .masked_fill(
            &visible(&position, &position, window).logical_not(),
            f64::NEG_INFINITY,
        )
        .softmax(-1, Kind::Float)
}

fn sdpa(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use tch::Device;

    fn random(length: i64) -> [Tensor; 3] {
        let _held = seeded(length);
        [0; 3].map(|_| Tensor::randn([2, 3, length, 8], (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn all_forms_agree() {
        for (length, window) in [
            (1, -1),
            (40, -1),
            (40, 0),
            (40, 7),
            (1200, 100),
            (1200, 700),
        ] {
            let [q, k, v] = random(length);
            let expected = matrix(&q, &k, window).matmul(&v);
            let error = |y: Tensor| (y - &expected).abs().max().double_value(&[]);
            assert!(
                error(causal(&q, &k, &v, window)) < 1e-5,
                "{length} {window}"
            );
            let position =
                Tensor::arange(length, (Kind::Int64, Device::Cpu)).expand([2, length], false);
            assert!(error(positioned(&q, &k, &v, &position, &position, window)) < 1e-5);
        }
    }
}
