//! The learning rate over a run.

use crate::config::{DecayShape, ScheduleConfig, ScheduleKind};

impl ScheduleConfig {
    /// The learning rate of a step over its peak.
    ///
    /// `step` counts from 0; `progress` in `[0, 1]` is the part of the run that is over,
    /// `step / steps` unless the clock is further on. The warm-up rises by steps:
    /// `(step + 1) / warmup_steps`. What follows goes by progress.
    pub fn multiplier(&self, step: u64, progress: f64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let steps = self.steps as f64;
        let position = (progress * steps).max(step as f64);
        let over = |start: f64| {
            let span = steps - start;
            if span > 0.0 {
                ((position - start) / span).clamp(0.0, 1.0)
            } else {
                1.0
            }
        };
        let part = match self.kind {
            ScheduleKind::Constant => return 1.0,
            ScheduleKind::Cosine => {
                let q = over(self.warmup_steps as f64);
                0.5 * (1.0 + (std::f64::consts::PI * q).cos())
            }
            ScheduleKind::Wsd => {
                let q = over((steps - self.decay_length()).max(self.warmup_steps as f64));
                match self.decay_shape {
                    DecayShape::Linear => 1.0 - q,
                    DecayShape::Sqrt => 1.0 - q.sqrt(),
                }
            }
        };
        self.min_lr_ratio + (1.0 - self.min_lr_ratio) * part
    }

    /// The part of the run that is over after `step` steps and `seconds` of training.
    pub fn progress(&self, step: u64, seconds: f64) -> f64 {
        let steps = step as f64 / self.steps as f64;
        let clock = if self.max_minutes > 0.0 {
            seconds / (60.0 * self.max_minutes)
        } else {
            0.0
        };
        steps.max(clock).min(1.0)
    }

    fn decay_length(&self) -> f64 {
        match self.decay_steps {
            0 => self.steps as f64 / 5.0,
            steps => steps as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> ScheduleConfig {
        ScheduleConfig {
            kind,
            steps: 100,
            warmup_steps: 10,
            min_lr_ratio: 0.1,
            decay_steps: 20,
            ..ScheduleConfig::default()
        }
    }

    fn at(schedule: &ScheduleConfig, step: u64) -> f64 {
        schedule.multiplier(step, schedule.progress(step, 0.0))
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_peak() {
        for kind in [
            ScheduleKind::Cosine,
            ScheduleKind::Wsd,
            ScheduleKind::Constant,
        ] {
            let schedule = schedule(kind);
            close(at(&schedule, 0), 0.1);
            close(at(&schedule, 4), 0.5);
            close(at(&schedule, 9), 1.0);
            close(at(&schedule, 10), 1.0);
        }
    }

    #[test]
    fn cosine_halves_in_the_middle_and_ends_at_the_floor() {
        let schedule = schedule(ScheduleKind::Cosine);
        close(at(&schedule, 55), 0.55);
        close(at(&schedule, 100), 0.1);
        close(at(&schedule, 40), 0.1 + 0.9 * 0.75);
    }

    #[test]
    fn stable_phase_then_decay() {
        let mut schedule = schedule(ScheduleKind::Wsd);
        close(at(&schedule, 80), 1.0);
        close(at(&schedule, 90), 0.55);
        close(at(&schedule, 100), 0.1);
        schedule.decay_shape = DecayShape::Sqrt;
        close(at(&schedule, 85), 0.1 + 0.9 * 0.5);
        schedule.decay_steps = 0;
        close(at(&schedule, 80), 1.0);
        schedule.decay_steps = 95;
        close(at(&schedule, 10), 1.0);
    }

    #[test]
    fn constant_stays() {
        close(at(&schedule(ScheduleKind::Constant), 99), 1.0);
    }

    #[test]
    fn the_clock_takes_over_when_it_is_further_on() {
        let mut schedule = schedule(ScheduleKind::Cosine);
        schedule.max_minutes = 2.0;
        close(schedule.progress(10, 60.0), 0.5);
        close(schedule.progress(80, 60.0), 0.8);
        close(schedule.progress(10, 600.0), 1.0);
        close(schedule.multiplier(20, 1.0), 0.1);
        close(schedule.multiplier(4, 0.9), 0.5);
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_is_no_division_by_zero() {
        let mut schedule = schedule(ScheduleKind::Cosine);
        schedule.warmup_steps = 100;
        close(at(&schedule, 99), 1.0);
        close(at(&schedule, 100), 0.1);
    }
}
