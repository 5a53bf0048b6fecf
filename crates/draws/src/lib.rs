//! Seeds of what tests draw: libtorch has one source, which all threads of a process share.

use std::sync::{Mutex, MutexGuard, PoisonError};

static SOURCE: Mutex<()> = Mutex::new(());

/// Draws of this thread until this is dropped; other threads' wait.
#[must_use = "others draw from the source once this is dropped"]
pub struct Draws(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Starts libtorch's source at `seed` and holds it. A thread that asks again while it holds one
/// waits for itself, without end.
pub fn seeded(seed: i64) -> Draws {
    let held = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    Draws(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn threads_do_not_take_from_each_others_draws() {
        let draw = || {
            let _held = seeded(3);
            [0; 4].map(|_| Tensor::randn([1], (Kind::Float, Device::Cpu)).double_value(&[0]))
        };
        let expected = draw();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!((0..500).all(|_| draw() == expected)));
            }
        });
    }
}
