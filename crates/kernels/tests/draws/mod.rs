//! Seeds of the draws of one test, which no other test takes from meanwhile: all share one source.

use std::sync::{Mutex, MutexGuard, PoisonError};

static SOURCE: Mutex<()> = Mutex::new(());

pub fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    let alone = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    alone
}
