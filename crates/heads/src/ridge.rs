//! Ridge regression on letters, and on pairs of them: the baselines that any head has to beat.
//!
//! One-hot ridge on whole sequences is written as deviations from a reference: with `w[i, a]` for
//! letter a at position i, `Σ w[i, x_i] = const + Σ_{i changed} (w[i, x_i] - w[i, r_i])`. So each
//! changed position has two features, its letter and that it is changed, with the penalty of
//! one-hot ridge, and rows are as sparse as mutants are.

use std::collections::HashMap;

use crate::view::FEW;

/// Most steps of conjugate gradients.
const STEPS: usize = 300;
/// Penalties that validation chooses from.
pub const PENALTIES: [f64; 6] = [0.03, 0.3, 1.0, 3.0, 10.0, 100.0];

/// What a row is described by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Letters.
    Additive,
    /// Letters and pairs of them: all pairs where few positions vary, else pairs of changes.
    Pairwise,
}

/// Sparse rows of features that are 0 or 1.
#[derive(Debug, Clone)]
pub struct Features {
    starts: Vec<usize>,
    columns: Vec<u32>,
    count: usize,
}

impl Features {
    /// Describes `sequences` beside `reference`; letters beyond the reference's end are changes.
    /// Features that none of `train` has are left out.
    pub fn of(order: Order, sequences: &[&[u8]], reference: &[u8], train: &[usize]) -> Self {
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        let letter = |sequence: &[u8], i: usize| sequence.get(i).copied().unwrap_or(u8::MAX);
        let varying: Vec<usize> = (0..longest)
            .filter(|&i| {
                sequences
                    .iter()
                    .any(|s| letter(s, i) != letter(reference, i))
            })
            .collect();
        let all_pairs = order == Order::Pairwise && varying.len() <= FEW;
        let describe = |sequence: &[u8], keys: &mut Vec<u64>| {
            keys.clear();
            let changed = varying
                .iter()
                .copied()
                .filter(|&i| letter(sequence, i) != letter(reference, i));
            let changed: Vec<usize> = changed.collect();
            for &i in &changed {
                keys.push(key(i, letter(sequence, i), 0, 0));
                keys.push(key(i, 255, 0, 0));
            }
            if order == Order::Additive {
                return;
            }
            let places = if all_pairs { &varying } else { &changed };
            for (n, &i) in places.iter().enumerate() {
                for &j in &places[n + 1..] {
                    keys.push(key(i, letter(sequence, i), j, letter(sequence, j)));
                    if !all_pairs {
                        keys.push(key(i, 255, j, 255));
                    }
                }
            }
        };
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut keys = Vec::new();
        for &row in train {
            describe(sequences[row], &mut keys);
            for &key in &keys {
                let next = numbers.len() as u32;
                numbers.entry(key).or_insert(next);
            }
        }
        let mut features = Self {
            starts: vec![0],
            columns: Vec::new(),
            count: numbers.len(),
        };
        for sequence in sequences {
            describe(sequence, &mut keys);
            features
                .columns
                .extend(keys.iter().filter_map(|key| numbers.get(key)));
            features.starts.push(features.columns.len());
        }
        features
    }

    /// Number of features.
    pub fn count(&self) -> usize {
        self.count
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.columns[self.starts[row]..self.starts[row + 1]]
    }

    fn dot(&self, row: usize, weights: &[f64]) -> f64 {
        self.row(row)
            .iter()
            .map(|&column| weights[column as usize])
            .sum()
    }
}

/// Position i with letter a and position j with letter b, as one number.
fn key(i: usize, a: u8, j: usize, b: u8) -> u64 {
    ((i as u64) << 40) | (u64::from(a) << 32) | ((j as u64) << 8) | u64::from(b)
}

/// A fitted ridge regression with an intercept that is not penalised.
#[derive(Debug, Clone)]
pub struct Ridge {
    weights: Vec<f64>,
    intercept: f64,
}

impl Ridge {
    /// Minimises `Σ (y - b - X w)² + penalty |w|²` over the rows `train`, by conjugate gradients
    /// that are preconditioned by the diagonal.
    pub fn fit(features: &Features, train: &[usize], values: &[f64], penalty: f64) -> Self {
        let n = train.len() as f64;
        let mut means = vec![0.0; features.count];
        for &row in train {
            features
                .row(row)
                .iter()
                .for_each(|&column| means[column as usize] += 1.0 / n);
        }
        let centre = train.iter().map(|&row| values[row]).sum::<f64>() / n;
        // Xᵀ(X v) of centred columns, plus the penalty.
        let apply = |v: &[f64]| -> Vec<f64> {
            let shift: f64 = means.iter().zip(v).map(|(m, v)| m * v).sum();
            let mut out: Vec<f64> = v.iter().map(|v| penalty * v).collect();
            let mut total = 0.0;
            for &row in train {
                let y = features.dot(row, v) - shift;
                total += y;
                features
                    .row(row)
                    .iter()
                    .for_each(|&column| out[column as usize] += y);
            }
            out.iter_mut()
                .zip(&means)
                .for_each(|(out, mean)| *out -= mean * total);
            out
        };
        let mut residual = vec![0.0; features.count];
        for &row in train {
            let y = values[row] - centre;
            features
                .row(row)
                .iter()
                .for_each(|&column| residual[column as usize] += y);
        }
        let scale: Vec<f64> = means
            .iter()
            .map(|m| 1.0 / (n * m * (1.0 - m) + penalty))
            .collect();
        let mut weights = vec![0.0; features.count];
        let mut z: Vec<f64> = residual.iter().zip(&scale).map(|(r, s)| r * s).collect();
        let mut direction = z.clone();
        let mut size = dot(&residual, &z);
        let goal = size * 1e-12;
        for _ in 0..STEPS {
            if size <= goal {
                break;
            }
            let image = apply(&direction);
            let step = size / dot(&direction, &image);
            add(&mut weights, step, &direction);
            add(&mut residual, -step, &image);
            z = residual.iter().zip(&scale).map(|(r, s)| r * s).collect();
            let next = dot(&residual, &z);
            let part = next / size;
            size = next;
            direction
                .iter_mut()
                .zip(&z)
                .for_each(|(d, z)| *d = z + part * *d);
        }
        let intercept = centre - dot(&means, &weights);
        Self { weights, intercept }
    }

    /// The value of a row.
    pub fn predict(&self, features: &Features, row: usize) -> f64 {
        self.intercept + features.dot(row, &self.weights)
    }
}

/// `to + part * what`, in place.
fn add(to: &mut [f64], part: f64, what: &[f64]) {
    to.iter_mut()
        .zip(what)
        .for_each(|(to, what)| *to += part * what);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Vec<Vec<u8>> {
        (0..64u8).map(|i| vec![i % 4, i / 4 % 4, i / 16]).collect()
    }

    /// Values of one-hot ridge in its plain form, solved densely.
    #[allow(clippy::needless_range_loop)]
    fn dense(sequences: &[Vec<u8>], values: &[f64], penalty: f64) -> Vec<f64> {
        let n = values.len();
        let centre = values.iter().sum::<f64>() / n as f64;
        let equal = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
        let mut kernel: Vec<Vec<f64>> = sequences
            .iter()
            .map(|a| sequences.iter().map(|b| equal(a, b)).collect())
            .collect();
        // Centring on both sides.
        let means: Vec<f64> = kernel
            .iter()
            .map(|row| row.iter().sum::<f64>() / n as f64)
            .collect();
        let mean = means.iter().sum::<f64>() / n as f64;
        for i in 0..n {
            for j in 0..n {
                kernel[i][j] += mean - means[i] - means[j];
            }
        }
        let mut system = kernel.clone();
        (0..n).for_each(|i| system[i][i] += penalty);
        let mut dual: Vec<f64> = values.iter().map(|v| v - centre).collect();
        for i in 0..n {
            for j in i + 1..n {
                let factor = system[j][i] / system[i][i];
                for k in i..n {
                    system[j][k] -= factor * system[i][k];
                }
                dual[j] -= factor * dual[i];
            }
        }
        for i in (0..n).rev() {
            for j in i + 1..n {
                dual[i] -= system[i][j] * dual[j];
            }
            dual[i] /= system[i][i];
        }
        kernel.iter().map(|row| centre + dot(row, &dual)).collect()
    }

    #[test]
    fn deviations_are_one_hot_ridge() {
        let sequences = sequences();
        let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let values: Vec<f64> = (0..64).map(|i| f64::from(i * 7 % 13)).collect();
        let train: Vec<usize> = (0..64).collect();
        let features = Features::of(Order::Additive, &rows, &[1, 2, 0], &train);
        let ridge = Ridge::fit(&features, &train, &values, 2.0);
        for (row, expected) in dense(&sequences, &values, 2.0).into_iter().enumerate() {
            assert!((ridge.predict(&features, row) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn pairs_fit_what_letters_cannot() {
        let sequences = sequences();
        let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let pair =
            |s: &Vec<u8>| f64::from(u8::from(s[0] == 1 && s[2] == 2)) * 3.0 + f64::from(s[1]);
        let values: Vec<f64> = sequences.iter().map(pair).collect();
        let train: Vec<usize> = (0..64).collect();
        let error = |order| {
            let features = Features::of(order, &rows, &[0, 0, 0], &train);
            let ridge = Ridge::fit(&features, &train, &values, 1e-6);
            let worst = |row: usize| (ridge.predict(&features, row) - values[row]).abs();
            (0..64).map(worst).fold(0.0, f64::max)
        };
        assert!(error(Order::Pairwise) < 1e-3);
        assert!(error(Order::Additive) > 1.0);
    }
}
