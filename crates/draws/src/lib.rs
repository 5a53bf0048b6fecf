//! Seeds of what tests draw: libtorch has one source, which all threads of a process share.

use std::sync::{Mutex, MutexGuard, PoisonError};

static SOURCE: Mutex<()> = Mutex::new(());

/// Draws of this thread until this is dropped; other threads' wait.
#[must_use = "others draw from the source once this is dropped"]
pub struct Draws(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Starts libtorch's source at `seed` and holds it. Of one thread only one may be held.
pub fn seeded(seed: i64) -> Draws {
    let held = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    Draws(held)
}
