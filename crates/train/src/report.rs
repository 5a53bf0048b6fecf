//! What a run says while it goes: log lines, and a bar on a terminal.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::loss::{StageRatio, Tally};
use crate::trainer::StepReport;

/// Talks on stderr: one line every so many steps, and a progress bar between them when
/// stderr is a terminal.
#[derive(Debug)]
pub struct Reporter {
    bar: Option<ProgressBar>,
    every: u64,
    /// Steps of the run, where the clock does not end it before.
    steps: Option<u64>,
    started: Instant,
    /// Part of the run that was over at the start.
    start: f64,
    tokens: u64,
    since: Instant,
}

impl Reporter {
    /// For a run of which `progress` is over, with a line every `every` steps; `steps` is
    /// how many there are in all, where that is known.
    pub fn new(steps: Option<u64>, every: u64, progress: f64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(1000).with_style(style)
        });
        let now = Instant::now();
        Self {
            bar,
            every,
            steps,
            started: now,
            start: progress,
            tokens: 0,
            since: now,
        }
    }

    /// After a step; `progress` is the part of the run that is over.
    pub fn step(&mut self, report: &StepReport, progress: f64) {
        self.tokens += report.tally.tokens;
        let elapsed = self.since.elapsed().as_secs_f64().max(1e-9);
        let rate = self.tokens as f64 / elapsed;
        let left = self.left(progress);
        if let Some(bar) = &self.bar {
            bar.set_position((1000.0 * progress) as u64);
            bar.set_message(format!(
                "{}  bits/base {:.4}  {} tokens/s  {left} left",
                self.place(report.step),
                report.tally.bits_per_base(),
                rounded(rate)
            ));
        }
        if report.step.is_multiple_of(self.every) || progress >= 1.0 {
            self.say(&line(report, &self.place(report.step), rate, &left));
            (self.tokens, self.since) = (0, Instant::now());
        }
    }

    /// After an evaluation.
    pub fn evaluation(&mut self, step: u64, tally: &Tally, ema: bool) {
        let weights = if ema { ", averaged weights" } else { "" };
        self.say(&format!(
            "{}  validation: bits/base {:.4}{}  ({} bases{weights})",
            self.place(step),
            tally.bits_per_base(),
            ratios(&tally.ratios()),
            tally.scored
        ));
        self.since = Instant::now();
        self.tokens = 0;
    }

    /// Any other line.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tracing::info!("{line}")),
            None => tracing::info!("{line}"),
        }
    }

    fn place(&self, step: u64) -> String {
        match self.steps {
            Some(steps) => format!("step {step:>6}/{steps}"),
            None => format!("step {step:>6}"),
        }
    }

    fn left(&self, progress: f64) -> String {
        let done = progress - self.start;
        if done <= 0.0 {
            return "?".into();
        }
        let seconds = self.started.elapsed().as_secs_f64() * (1.0 - progress) / done;
        clock(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
    }
}

impl Drop for Reporter {
    /// Takes the bar away, however the run ends.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The log line of a step.
fn line(report: &StepReport, place: &str, rate: f64, left: &str) -> String {
    let mut line = place.to_owned();
    let _ = write!(
        line,
        "  loss {:.4}  bits/base {:.4}{}  lr {:.2e}  grad {:.3}  {} tokens/s  {left} left",
        report.loss,
        report.tally.bits_per_base(),
        ratios(&report.tally.ratios()),
        report.lr,
        report.norm,
        rounded(rate)
    );
    line
}

/// `  F 0.351/0.512  G 0.348/0.507`: one figure a routed stage.
fn ratios(ratios: &[StageRatio]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    let list = |value: &dyn Fn(&StageRatio) -> f64| {
        ratios
            .iter()
            .map(|ratio| format!("{:.3}", value(ratio)))
            .collect::<Vec<_>>()
            .join("/")
    };
    format!(
        "  F {}  G {}",
        list(&|r| r.selected),
        list(&|r| r.probability)
    )
}

/// A count in three figures or so: 950, 12.3k, 4.56M.
pub(crate) fn rounded(x: f64) -> String {
    match x {
        x if x < 1e3 => format!("{x:.0}"),
        x if x < 1e6 => format!("{:.1}k", x / 1e3),
        x if x < 1e9 => format!("{:.2}M", x / 1e6),
        x if x < 1e12 => format!("{:.2}G", x / 1e9),
        x if x < 1e15 => format!("{:.2}T", x / 1e12),
        x => format!("{x:.2e}"),
    }
}

/// `1:02:03` or `2:03`.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::StageTally;

    #[test]
    fn a_line_has_everything() {
        let stage = StageTally {
            selected: 35.1,
            probability: 34.8,
            tokens: 100.0,
        };
        let report = StepReport {
            step: 20,
            tally: Tally {
                nats: 100.0 * std::f64::consts::LN_2 * 1.95,
                scored: 100,
                tokens: 100,
                stages: vec![stage.clone(), stage],
                ..Tally::default()
            },
            loss: 1.371_25,
            norm: 0.82,
            lr: 9.5e-4,
            seconds: 0.1,
            signal: None,
        };
        assert_eq!(
            line(&report, "step     20/1000", 52_130.0, "3:12"),
            "step     20/1000  loss 1.3713  bits/base 1.9500  F 0.351/0.351  G 0.348/0.348  \
             lr 9.50e-4  grad 0.820  52.1k tokens/s  3:12 left"
        );
    }

    #[test]
    fn durations_and_counts() {
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(rounded(4_560_000.0), "4.56M");
    }
}
