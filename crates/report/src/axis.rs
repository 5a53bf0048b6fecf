//! Axes: label, scale and range.

use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::coordinate::Coordinate;

/// How values are laid along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal differences take equal room.
    #[default]
    Linear,
    /// Equal ratios take equal room.
    Log,
}

/// An axis of a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Linear or logarithmic.
    #[serde(default)]
    pub scale: Scale,
    /// Lower and upper end; by default the data with some room. Data outside is drawn at
    /// the nearer end.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            scale: Scale::Linear,
            range: None,
        }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self {
            scale: Scale::Log,
            ..Self::linear(label)
        }
    }

    /// The same axis from `low` to `high`.
    pub fn with_range(self, low: f64, high: f64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }

    /// Range and at most about `ticks` ticks for finite `values`, each with the name of
    /// what it belongs to.
    pub(crate) fn fit(
        &self,
        title: &str,
        values: impl Iterator<Item = (String, f64)>,
        ticks: usize,
    ) -> Result<Coordinate, ReportError> {
        let mut data: Option<(f64, f64)> = None;
        for (series, value) in values {
            if self.scale == Scale::Log && value <= 0.0 {
                return Err(ReportError::NotPositive {
                    title: title.to_owned(),
                    axis: self.label.clone(),
                    series,
                    value,
                });
            }
            let (low, high) = data.unwrap_or((value, value));
            data = Some((low.min(value), high.max(value)));
        }
        // Without data any range serves that both scales can show.
        let data = data.unwrap_or((1.0, 10.0));
        let (low, high) = self.range.unwrap_or_else(|| self.scale.widen(data));
        let floor = match self.scale {
            Scale::Linear => f64::NEG_INFINITY,
            Scale::Log => 0.0,
        };
        if !(floor < low && low < high && high < f64::INFINITY) {
            return Err(ReportError::Range {
                title: title.to_owned(),
                axis: self.label.clone(),
                low,
                high,
            });
        }
        Ok(Coordinate::new(self.scale, low..high, ticks))
    }
}

impl Scale {
    pub(crate) fn forward(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        }
    }

    pub(crate) fn backward(self, place: f64) -> f64 {
        match self {
            Scale::Linear => place,
            Scale::Log => 10_f64.powf(place),
        }
    }

    /// `data` with a little room at both ends.
    fn widen(self, (low, high): (f64, f64)) -> (f64, f64) {
        let (low, high) = (self.forward(low), self.forward(high));
        let room = match high - low {
            0.0 => (low.abs() * 0.1).max(0.1),
            span => span * 0.04,
        };
        (self.backward(low - room), self.backward(high + room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_and_ranges_are_named() {
        let value = |v: f64| [("loss".to_owned(), v)].into_iter();
        let error = |r: Result<Coordinate, ReportError>| r.unwrap_err().to_string();
        assert_eq!(
            error(Axis::log("step").fit("Training", value(0.0), 7)),
            "plot `Training`: axis `step` is logarithmic and `loss` has the value 0; expected \
             values above zero, or a linear axis"
        );
        let axis = Axis::linear("y").with_range(2.0, 1.0);
        assert!(error(axis.fit("t", value(1.0), 7)).contains("cannot run from 2 to 1"));
        let axis = Axis::log("y").with_range(0.0, 1.0);
        assert!(error(axis.fit("t", value(1.0), 7)).contains("cannot run from 0 to 1"));
    }
}
