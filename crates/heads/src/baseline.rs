//! What a head is compared with, on the same rows.

use serde::{Deserialize, Serialize};

use crate::dataset::Task;
use crate::metrics::{Choice, Metrics};
use crate::ridge::{Features, Order, PENALTIES, Ridge};
use crate::trainer::Rows;

/// A baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean of the training rows, or the shares of classes and labels.
    Mean,
    /// Ridge regression on letters.
    AdditiveRidge,
    /// Ridge regression on letters and pairs of them.
    PairwiseRidge,
    /// An additive trait behind one monotone curve.
    GlobalEpistasis,
    /// A small convolutional network of equal size.
    Cnn,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Mean,
        Self::AdditiveRidge,
        Self::PairwiseRidge,
        Self::GlobalEpistasis,
        Self::Cnn,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::AdditiveRidge => "additive-ridge",
            Self::PairwiseRidge => "pairwise-ridge",
            Self::GlobalEpistasis => "global-epistasis",
            Self::Cnn => "cnn",
        }
    }
}

/// Letters of all rows, and of what they are deviations from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Views<'a> {
    pub sequences: &'a [&'a [u8]],
    pub reference: &'a [u8],
}

/// Predictions of a linear baseline for `wanted` rows, numbers as they are learned or
/// probabilities; the second value is the number of parameters, the third the penalty.
pub(crate) fn linear(
    baseline: Baseline,
    task: Task,
    classes: usize,
    views: Views<'_>,
    rows: Rows<'_>,
    choice: Choice,
    wanted: &[usize],
) -> (Vec<Vec<f64>>, usize, Option<f64>) {
    let columns = columns(task, classes, rows.targets);
    let known = |column: &[f64]| -> Vec<usize> {
        let rows = rows.train.iter().copied();
        rows.filter(|&row| !column[row].is_nan()).collect()
    };
    if baseline == Baseline::Mean {
        let means: Vec<f64> = columns
            .iter()
            .map(|column| {
                let known = known(column);
                known.iter().map(|&row| column[row]).sum::<f64>() / known.len().max(1) as f64
            })
            .collect();
        let count = means.len();
        return (vec![means; wanted.len()], count, None);
    }
    let order = match baseline {
        Baseline::PairwiseRidge => Order::Pairwise,
        _ => Order::Additive,
    };
    let features = Features::of(order, views.sequences, views.reference, rows.train);
    let fit = |penalty: f64| -> Vec<Ridge> {
        columns
            .iter()
            .map(|column| Ridge::fit(&features, &known(column), column, penalty))
            .collect()
    };
    let predict = |models: &[Ridge], rows: &[usize]| -> Vec<Vec<f64>> {
        let of = |&row: &usize| {
            let values = models.iter().map(|model| model.predict(&features, row));
            probable(task, values.collect())
        };
        rows.iter().map(of).collect()
    };
    let measured: Vec<Vec<f64>> = rows
        .validation
        .iter()
        .map(|&row| rows.targets[row].clone())
        .collect();
    let mut best: Option<(f64, f64, Vec<Ridge>)> = None;
    let penalties: &[f64] = match measured.len() >= Rows::FEWEST {
        true => &PENALTIES,
        false => &[1.0],
    };
    for &penalty in penalties {
        let models = fit(penalty);
        let score = match penalties.len() {
            1 => 0.0,
            _ => Metrics::of(task, &predict(&models, rows.validation), &measured).score(choice),
        };
        if best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
            best = Some((score, penalty, models));
        }
    }
    let (_, penalty, models) = best.expect("there are penalties");
    let count = (features.count() + 1) * columns.len();
    (predict(&models, wanted), count, Some(penalty))
}

/// A column of numbers for each output: an indicator for each class.
fn columns(task: Task, classes: usize, targets: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = match task {
        Task::Classification => classes,
        _ => targets.first().map_or(0, Vec::len),
    };
    (0..width)
        .map(|k| {
            let of = |row: &Vec<f64>| match task {
                Task::Classification => f64::from(u8::from(row[0] == k as f64)),
                _ => row[k],
            };
            targets.iter().map(of).collect()
        })
        .collect()
}

/// Outputs of linear models as probabilities, where the task has them.
fn probable(task: Task, mut values: Vec<f64>) -> Vec<f64> {
    if task == Task::Regression {
        return values;
    }
    values
        .iter_mut()
        .for_each(|value| *value = value.clamp(1e-4, 1.0 - 1e-4));
    if task == Task::Classification {
        let total: f64 = values.iter().sum();
        values.iter_mut().for_each(|value| *value /= total);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_probabilities() {
        let sequences: Vec<Vec<u8>> = (0..80u8).map(|i| vec![i % 4, i / 4 % 4, i % 3]).collect();
        let views: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let class = |s: &Vec<u8>| vec![f64::from(u8::from(s[0] > 1))];
        let targets: Vec<Vec<f64>> = sequences.iter().map(class).collect();
        let all: Vec<usize> = (0..80).collect();
        let rows = Rows {
            train: &all[..50],
            validation: &all[50..65],
            targets: &targets,
        };
        let run = |baseline| {
            linear(
                baseline,
                Task::Classification,
                2,
                Views {
                    sequences: &views,
                    reference: &[0, 0, 0],
                },
                rows,
                Choice::Correlation,
                &all[65..],
            )
            .0
        };
        let measured = targets[65..].to_vec();
        let of = |baseline| Metrics::of(Task::Classification, &run(baseline), &measured);
        assert_eq!(of(Baseline::Mean).auroc, Some(0.5));
        assert_eq!(of(Baseline::AdditiveRidge).auroc, Some(1.0));
        assert!(
            run(Baseline::PairwiseRidge)
                .iter()
                .all(|p| (p[0] + p[1] - 1.0).abs() < 1e-9)
        );
    }
}
