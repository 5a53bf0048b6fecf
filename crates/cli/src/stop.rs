//! Ctrl-C and SIGTERM: the first asks the run to end cleanly, the second ends it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

struct Signals {
    stop: Arc<AtomicBool>,
    which: Arc<AtomicUsize>,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// A flag that the first signal sets.
pub fn flag() -> Arc<AtomicBool> {
    let signals = SIGNALS.get_or_init(|| {
        let signals = Signals {
            stop: Arc::default(),
            which: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            let known = flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&signals.stop),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&signals.stop)))
            .and_then(|_| {
                flag::register_usize(signal, Arc::clone(&signals.which), signal as usize)
            });
            if let Err(error) = known {
                tracing::warn!("signals cannot be caught: {error}");
            }
        }
        signals
    });
    Arc::clone(&signals.stop)
}

/// The signal that has come, if any.
pub fn signal() -> Option<i32> {
    let which = SIGNALS.get()?.which.load(Ordering::Relaxed);
    (which != 0).then_some(which as i32)
}
