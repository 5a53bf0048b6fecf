//! `[long_range]`: states that windows begin from in training, so that a model meets the
//! states of long sequences (Buitrago and Gu 2025, "unexplored states").

use serde::{Deserialize, Serialize};

/// Where the first state of a window comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From nothing, as in plain training.
    #[default]
    None,
    /// Scan states are normal noise of one size.
    Noise,
    /// Scan states are normal noise with the mean and deviation that last states have, for
    /// each layer and head.
    FittedNoise,
    /// What the recurrent mixers remembered at the end of the window before in the same row
    /// of the batch, which is of another place.
    StatePassing,
    /// Rows read consecutive windows of a contig; all state is handed on, cut off from the
    /// gradient (truncated back-propagation through time).
    Tbptt,
}

/// `[long_range]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LongRangeConfig {
    /// Where the first state of a window comes from.
    pub method: Method,
    /// Optimizer steps before the method begins: it may follow plain training.
    pub from_step: u64,
    /// Share of windows that begin from nothing all the same, so that short sequences stay
    /// known. (With `tbptt` these are the first windows of stretches.)
    pub from_nothing: f64,
    /// Standard deviation of `noise`.
    pub noise: f64,
    /// Consecutive windows of a stretch with `tbptt`.
    pub windows: u64,
}

impl Default for LongRangeConfig {
    fn default() -> Self {
        Self {
            method: Method::None,
            from_step: 0,
            from_nothing: 0.1,
            noise: 1.0,
            windows: 16,
        }
    }
}

impl LongRangeConfig {
    /// Whether states are kept after step `step`, the first being 0.
    pub fn keeps(&self, step: u64) -> bool {
        self.method != Method::None && step >= self.from_step
    }

    /// Whether windows of step `step` may begin from a state: those before have left one.
    pub fn gives(&self, step: u64) -> bool {
        self.method != Method::None && step > self.from_step
    }
}
