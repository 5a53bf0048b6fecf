//! Targets as networks learn them: standardised, and back.

use serde::{Deserialize, Serialize};

use crate::dataset::Task;
use crate::metrics::{deviation, mean};

/// What happens to a target before it is standardised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// Its rank among the training rows: for skewed measurements whose order matters.
    Rank,
    /// Its logarithm, above a floor of a hundredth of the median of positive values.
    Log,
}

/// Knots of a rank scale.
const KNOTS: usize = 257;

/// From a target to what is learned, and back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    transform: Transform,
    /// Values at equal steps of rank, for ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    knots: Vec<f64>,
    /// Added before the logarithm.
    #[serde(default)]
    floor: f64,
    mean: f64,
    deviation: f64,
}

impl Scale {
    /// Fits a scale to the training rows' values.
    pub fn fit(transform: Transform, values: &[f64]) -> Self {
        let mut scale = Self {
            transform,
            knots: Vec::new(),
            floor: 0.0,
            mean: 0.0,
            deviation: 1.0,
        };
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        match transform {
            Transform::None => {}
            Transform::Rank => {
                let last = sorted.len().saturating_sub(1) as f64;
                let knot =
                    |i: usize| sorted[(i as f64 / (KNOTS - 1) as f64 * last).round() as usize];
                scale.knots = (0..KNOTS).map(knot).collect();
            }
            Transform::Log => {
                let positive = &sorted[sorted.partition_point(|&value| value <= 0.0)..];
                let median = positive.get(positive.len() / 2).copied().unwrap_or(1.0);
                scale.floor = median / 100.0;
            }
        }
        let bent: Vec<f64> = values.iter().map(|&value| scale.bend(value)).collect();
        scale.mean = mean(&bent);
        let deviation = deviation(&bent);
        scale.deviation = if deviation > 0.0 { deviation } else { 1.0 };
        scale
    }

    /// The scale that changes nothing, for classes and labels.
    pub fn identity() -> Self {
        Self {
            transform: Transform::None,
            knots: Vec::new(),
            floor: 0.0,
            mean: 0.0,
            deviation: 1.0,
        }
    }

    /// One scale for each target column of the rows.
    pub fn fit_all(task: Task, transform: Transform, rows: &[&Vec<f64>]) -> Vec<Self> {
        let targets = rows.first().map_or(0, |row| row.len());
        (0..targets)
            .map(|k| match task {
                Task::Regression => {
                    let values: Vec<f64> = rows.iter().map(|row| row[k]).collect();
                    Self::fit(transform, &values)
                }
                _ => Self::identity(),
            })
            .collect()
    }

    /// A target as it is learned.
    pub fn forward(&self, value: f64) -> f64 {
        (self.bend(value) - self.mean) / self.deviation
    }

    /// A prediction in units of the target.
    pub fn backward(&self, value: f64) -> f64 {
        self.unbend(value * self.deviation + self.mean)
    }

    fn bend(&self, value: f64) -> f64 {
        match self.transform {
            Transform::None => value,
            Transform::Log => (value.max(0.0) + self.floor).ln(),
            Transform::Rank => {
                let steps = (self.knots.len() - 1) as f64;
                let low = self.knots.partition_point(|&knot| knot < value);
                let high = self.knots.partition_point(|&knot| knot <= value);
                if high > low {
                    // Tied knots share their mean rank.
                    return (low + high - 1) as f64 / 2.0 / steps;
                }
                if low == 0 || low == self.knots.len() {
                    return if low == 0 { 0.0 } else { 1.0 };
                }
                let (a, b) = (self.knots[low - 1], self.knots[low]);
                ((low - 1) as f64 + (value - a) / (b - a)) / steps
            }
        }
    }

    fn unbend(&self, value: f64) -> f64 {
        match self.transform {
            Transform::None => value,
            Transform::Log => value.exp() - self.floor,
            Transform::Rank => {
                let steps = (self.knots.len() - 1) as f64;
                let place = (value * steps).clamp(0.0, steps);
                let low = (place.floor() as usize).min(self.knots.len() - 2);
                let part = place - low as f64;
                // Beyond the ends in order still, so that no two predictions become the same.
                let beyond = (value * steps - place) / steps;
                let span = self.knots[self.knots.len() - 1] - self.knots[0];
                self.knots[low] * (1.0 - part) + self.knots[low + 1] * part + beyond * span
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_standardise_and_come_back() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i).powi(2) / 100.0).collect();
        for transform in [Transform::None, Transform::Rank, Transform::Log] {
            let scale = Scale::fit(transform, &values);
            let learned: Vec<f64> = values.iter().map(|&v| scale.forward(v)).collect();
            assert!(mean(&learned).abs() < 1e-9 && (deviation(&learned) - 1.0).abs() < 1e-9);
            assert!(learned.is_sorted());
            for (&value, &learned) in values.iter().zip(&learned) {
                assert!((scale.backward(learned) - value).abs() < 0.02 * value.max(1.0));
            }
            assert!(scale.backward(9.0) > scale.backward(8.0));
        }
    }

    #[test]
    fn tied_values_share_a_rank() {
        let mut values = vec![0.0; 300];
        values.extend((0..100).map(f64::from));
        let scale = Scale::fit(Transform::Rank, &values);
        assert!(scale.forward(0.0) < scale.forward(1.0));
        assert!(scale.forward(0.0) > scale.forward(-1.0));
    }
}
