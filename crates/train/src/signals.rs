//! Ctrl-C and SIGTERM as a question instead of an end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static PENDING: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on the first Ctrl-C or SIGTERM is kept for [`pending`]; a second one of
/// either ends the process at once with 130 or 143.
///
/// # Errors
///
/// The system refuses a handler.
pub fn install() -> std::io::Result<()> {
    if PENDING.get().is_some() {
        return Ok(());
    }
    let (asked, pending) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    for signal in [SIGINT, SIGTERM] {
        // Actions run in this order, so the first signal only raises the flags.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
        flag::register_usize(signal, Arc::clone(&pending), signal as usize)?;
    }
    let _ = PENDING.set(pending);
    Ok(())
}

/// The signal that has come since [`install`], if any.
pub fn pending() -> Option<i32> {
    let signal = PENDING.get()?.load(Ordering::Relaxed);
    i32::try_from(signal).ok().filter(|&signal| signal != 0)
}
