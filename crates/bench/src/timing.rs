//! Clocks for work that a device does on its own time.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

/// Times work on one device.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Where the work is done.
    pub device: Device,
    /// Runs that are counted.
    pub repeat: usize,
    /// Runs before them.
    pub warmup: usize,
}

/// Durations of the counted runs, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Half of the runs took less.
    pub median: f64,
    /// The fastest run.
    pub least: f64,
    /// The slowest run.
    pub most: f64,
}

impl Clock {
    /// Waits for the device.
    pub fn synchronize(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }

    /// Runs `work` and times each run.
    pub fn time(&self, mut work: impl FnMut()) -> Times {
        self.time_each(1, &mut work)
    }

    /// As [`Clock::time`] for work of microseconds: each timed run does it so often that
    /// it takes a few milliseconds, and is divided by that number.
    pub fn time_short(&self, mut work: impl FnMut()) -> Times {
        work();
        let once = self.once(1, &mut work);
        let times = (5e-3 / once.max(1e-7)).clamp(1.0, 200.0) as usize;
        self.time_each(times, &mut work)
    }

    fn time_each(&self, times: usize, work: &mut dyn FnMut()) -> Times {
        for _ in 0..self.warmup {
            work();
        }
        let mut runs: Vec<f64> = (0..self.repeat.max(1))
            .map(|_| self.once(times, work))
            .collect();
        runs.sort_by(f64::total_cmp);
        Times {
            median: f64::midpoint(runs[(runs.len() - 1) / 2], runs[runs.len() / 2]),
            least: runs[0],
            most: runs[runs.len() - 1],
        }
    }

    fn once(&self, times: usize, work: &mut dyn FnMut()) -> f64 {
        self.synchronize();
        let started = Instant::now();
        for _ in 0..times {
            work();
        }
        self.synchronize();
        started.elapsed().as_secs_f64() / times as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_median_is_of_single_runs() {
        let clock = Clock {
            device: Device::Cpu,
            repeat: 3,
            warmup: 1,
        };
        let mut runs = 0;
        let times = clock.time(|| {
            runs += 1;
            std::thread::sleep(Duration::from_millis(2));
        });
        assert_eq!(runs, 4);
        assert!(times.least >= 2e-3 && times.least <= times.median && times.median <= times.most);
        let short = clock.time_short(|| std::thread::sleep(Duration::from_millis(1)));
        assert!(short.least >= 1e-3, "{short:?}");
    }
}
