//! Says once where a scan has no kernel.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind};

/// Warns, once for each size, that a bf16 scan on CUDA runs in plain operators.
pub(super) fn warn(block: &str, device: Device, kind: Kind, [head_dim, state, rank]: [i64; 3]) {
    static SAID: Mutex<BTreeSet<(String, [i64; 3])>> = Mutex::new(BTreeSet::new());
    if !device.is_cuda() || kind != Kind::BFloat16 {
        return;
    }
    let size = (block.to_owned(), [head_dim, state, rank]);
    if SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(size)
    {
        let ranks = if rank > 1 {
            format!(", rank {rank}")
        } else {
            String::new()
        };
        tracing::warn!(
            "{block} has no CUDA scan for headdim {head_dim}, d_state {state}{ranks}: it runs in \
             plain operators, slower; `cistron doctor` lists the sizes with a kernel"
        );
    }
}
