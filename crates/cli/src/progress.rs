//! Progress on standard error: a bar on a terminal, else a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::global::Global;

/// Time between lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Progress of one piece of work, counted in `unit`.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    unit: &'static str,
    total: Option<u64>,
    done: u64,
    started: Instant,
    said: Instant,
}

impl Progress {
    /// Starts to count up to `total`, if that is known.
    pub fn new(global: &Global, what: &str, unit: &'static str, total: Option<u64>) -> Self {
        let bar = global.shows_bar().then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = match total {
                Some(_) => {
                    "{msg} [{bar:32}] {human_pos}/{human_len} {unit} ({per_sec}, {eta} left)"
                }
                None => "{msg} {spinner} {human_pos} {unit} ({per_sec})",
            };
            let template = template.replace("{unit}", unit);
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(what.to_owned());
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            what: what.to_owned(),
            unit,
            total,
            done: 0,
            started: now,
            said: now,
        }
    }

    /// So many are done in all.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            let of = self
                .total
                .map_or_else(String::new, |total| format!(" of {total}"));
            let rate = done as f64 / self.started.elapsed().as_secs_f64();
            tracing::info!(
                "{}: {done}{of} {} ({rate:.0} a second)",
                self.what,
                self.unit
            );
        }
    }

    /// So many more are done.
    pub fn add(&mut self, more: u64) {
        self.set(self.done + more);
    }

    /// Takes the bar away; returns the number done a second.
    pub fn finish(self) -> f64 {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.done as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }
}
