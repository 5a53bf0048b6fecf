//! Logistic regression.

use super::{mean, variance};

/// A fitted logistic regression on standardised features, with a ridge.
#[derive(Debug, Clone)]
pub struct Logistic {
    /// Mean and spread of each feature.
    scale: Vec<(f64, f64)>,
    /// The constant, then one weight a feature.
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits by Newton's method; `features[k][i]` is feature k of item i. The ridge is on the
    /// weights of the standardised features; the constant has a thousandth.
    pub fn fit(features: &[Vec<f64>], positive: &[bool], ridge: f64) -> Self {
        let count = positive.len();
        let scale: Vec<(f64, f64)> = features
            .iter()
            .map(|feature| (mean(feature), variance(feature).sqrt().max(1e-12)))
            .collect();
        let size = features.len() + 1;
        // Row by row: sums over items then run along memory.
        let rows: Vec<Vec<f64>> = (0..count)
            .map(|i| {
                let value = |(feature, (centre, spread)): (&Vec<f64>, &(f64, f64))| {
                    (feature[i] - centre) / spread
                };
                let values = features.iter().zip(&scale).map(value);
                std::iter::once(1.0).chain(values).collect()
            })
            .collect();
        let ridge: Vec<f64> = (0..size)
            .map(|k| if k == 0 { 1e-3 } else { ridge })
            .collect();
        let mut weights = vec![0.0; size];
        for _ in 0..50 {
            let mut hessian = vec![vec![0.0; size]; size];
            let mut gradient: Vec<f64> = weights.iter().zip(&ridge).map(|(w, r)| -r * w).collect();
            for (row, &positive) in rows.iter().zip(positive) {
                let chance = 1.0 / (1.0 + (-dot(row, &weights)).exp());
                let weight = chance * (1.0 - chance);
                let error = f64::from(u8::from(positive)) - chance;
                for a in 0..size {
                    gradient[a] += row[a] * error;
                    let scaled = row[a] * weight;
                    let cells = hessian[a][..=a].iter_mut();
                    cells.zip(row).for_each(|(cell, x)| *cell += scaled * x);
                }
            }
            (0..size).for_each(|a| hessian[a][a] += ridge[a]);
            let step = solve(hessian, gradient);
            weights.iter_mut().zip(&step).for_each(|(w, s)| *w += s);
            if step.iter().all(|s| s.abs() < 1e-8) {
                break;
            }
        }
        Self { scale, weights }
    }

    /// Log-odds of other items, with the same features.
    pub fn log_odds(&self, features: &[Vec<f64>]) -> Vec<f64> {
        let count = features.first().map_or(0, Vec::len);
        (0..count)
            .map(|i| {
                let terms = features.iter().zip(&self.scale).zip(&self.weights[1..]);
                let sum: f64 = terms
                    .map(|((feature, (centre, spread)), w)| w * (feature[i] - centre) / spread)
                    .sum();
                self.weights[0] + sum
            })
            .collect()
    }
}

/// Log-odds of a logistic regression fitted to these very labels, with a ridge of one thousandth.
pub fn logistic(features: &[Vec<f64>], positive: &[bool]) -> Vec<f64> {
    Logistic::fit(features, positive, 1e-3).log_odds(features)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves a positive definite system whose lower triangle is given, by Cholesky's method.
fn solve(mut lower: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for i in 0..size {
        for j in 0..=i {
            let sum = dot(&lower[i][..j], &lower[j][..j]);
            let value = lower[i][j] - sum;
            lower[i][j] = match i == j {
                true => value.max(1e-300).sqrt(),
                false => value / lower[j][j],
            };
        }
        let sum = dot(&lower[i][..i], &right[..i]);
        right[i] = (right[i] - sum) / lower[i][i];
    }
    for i in (0..size).rev() {
        right[i] /= lower[i][i];
        let known = right[i];
        for j in 0..i {
            right[j] -= lower[i][j] * known;
        }
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::auroc;

    fn data() -> (Vec<f64>, Vec<f64>, Vec<bool>) {
        let noise: Vec<f64> = (0..200u32).map(|i| f64::from(i * 7919 % 101)).collect();
        let signal: Vec<f64> = (0..200u32).map(|i| f64::from(i * 104_729 % 97)).collect();
        let positive = (0..200)
            .map(|i| signal[i] + 0.2 * noise[i] > 60.0)
            .collect();
        (noise, signal, positive)
    }

    #[test]
    fn a_regression_finds_the_feature_that_matters() {
        let (noise, signal, positive) = data();
        let alone = auroc(&noise, &positive).expect("both").auroc;
        let odds = logistic(&[noise, signal], &positive);
        assert!(auroc(&odds, &positive).expect("both").auroc > 0.99 && alone < 0.7);
    }

    #[test]
    fn weights_are_where_the_gradient_is_zero() {
        let (noise, signal, positive) = data();
        let features = [noise, signal];
        let fitted = Logistic::fit(&features, &positive, 2.0);
        let odds = fitted.log_odds(&features);
        for (k, feature) in features.iter().enumerate() {
            let (centre, spread) = fitted.scale[k];
            let pull: f64 = (0..200)
                .map(|i| {
                    let chance = 1.0 / (1.0 + (-odds[i]).exp());
                    (feature[i] - centre) / spread * (f64::from(u8::from(positive[i])) - chance)
                })
                .sum();
            assert!((pull - 2.0 * fitted.weights[k + 1]).abs() < 1e-6);
        }
        // A strong ridge pulls them to zero.
        let strong = Logistic::fit(&features, &positive, 1e6);
        assert!(strong.weights[1..].iter().all(|w| w.abs() < 1e-3));
    }

    #[test]
    fn systems_are_solved() {
        let lower = vec![vec![4.0], vec![2.0, 5.0], vec![0.0, 1.0, 3.0]];
        let found = solve(lower, vec![8.0, 15.0, 11.0]);
        for (found, expected) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
    }
}
