//! How good predictions are.

use cistron_score::metrics::{auroc, average_precision, midranks};
use serde::{Deserialize, Serialize};

use crate::dataset::Task;

/// What chooses among epochs and penalties on the validation rows, for numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The mean of Spearman and Pearson: a skewed table has its order in the many rows that hardly
    /// differ, and its variance in the few that do.
    #[default]
    Correlation,
    /// The share of the variance that is explained, of what is learned.
    R2,
}

/// Measures of predictions; those that the task does not have, or that are not defined, are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Rows.
    pub n: usize,
    /// Rank correlation, ties sharing their mean rank; the mean over targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spearman: Option<f64>,
    /// Linear correlation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pearson: Option<f64>,
    /// Share of the variance that is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Root of the mean square error, in units of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// Area under the ROC curve, the mean over classes or labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc: Option<f64>,
    /// Average precision, the mean over classes or labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auprc: Option<f64>,
    /// Share of rows, or of labels, that are right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean negative log-likelihood of what is true, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
}

impl Metrics {
    /// Measures `predicted` against `measured`, a row each. For classification a prediction is the
    /// probabilities of the classes; for labels, of each.
    pub fn of(task: Task, predicted: &[Vec<f64>], measured: &[Vec<f64>]) -> Self {
        match task {
            Task::Regression => regression(predicted, measured),
            Task::Classification => classification(predicted, measured),
            Task::Multilabel => multilabel(predicted, measured),
        }
    }

    /// What training is stopped by: `choice` for numbers, else the area under the ROC curve.
    pub fn score(&self, choice: Choice) -> f64 {
        let number = match choice {
            Choice::Correlation => self.spearman.zip(self.pearson).map(|(s, p)| (s + p) / 2.0),
            Choice::R2 => self.r2,
        };
        number.or(self.auroc).unwrap_or(f64::NEG_INFINITY)
    }

    /// The name of [`Metrics::score`].
    pub fn score_name(task: Task, choice: Choice) -> &'static str {
        match (task, choice) {
            (Task::Regression, Choice::Correlation) => "correlation",
            (Task::Regression, Choice::R2) => "R2",
            _ => "auroc",
        }
    }
}

/// Rank correlation; none where one side is constant or there are fewer than two rows.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&midranks(a), &midranks(b))
}

/// Linear correlation; none where one side is constant or there are fewer than two rows.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// The mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a sample; 0 of fewer than two values.
pub fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    let sum: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (sum / (values.len() - 1) as f64).sqrt()
}

fn column(rows: &[Vec<f64>], k: usize) -> Vec<f64> {
    rows.iter().map(|row| row[k]).collect()
}

fn mean_of(values: Vec<Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.into_iter().flatten().collect();
    (!values.is_empty()).then(|| mean(&values))
}

fn regression(predicted: &[Vec<f64>], measured: &[Vec<f64>]) -> Metrics {
    let targets = measured.first().map_or(0, Vec::len);
    let mut of: [Vec<Option<f64>>; 4] = Default::default();
    for k in 0..targets {
        let (p, m) = (column(predicted, k), column(measured, k));
        let centre = mean(&m);
        let square: f64 = p.iter().zip(&m).map(|(p, m)| (p - m).powi(2)).sum();
        let total: f64 = m.iter().map(|m| (m - centre).powi(2)).sum();
        of[0].push(spearman(&p, &m));
        of[1].push(pearson(&p, &m));
        of[2].push((total > 0.0).then(|| 1.0 - square / total));
        of[3].push(Some((square / m.len() as f64).sqrt()));
    }
    let [spearman, pearson, r2, rmse] = of.map(mean_of);
    Metrics {
        n: measured.len(),
        spearman,
        pearson,
        r2,
        rmse,
        ..Metrics::default()
    }
}

fn classification(predicted: &[Vec<f64>], measured: &[Vec<f64>]) -> Metrics {
    let classes = predicted.first().map_or(0, Vec::len);
    let mut of: [Vec<Option<f64>>; 2] = Default::default();
    // With two classes the areas of one are those of the other.
    for class in usize::from(classes == 2)..classes {
        let scores = column(predicted, class);
        let is: Vec<bool> = measured.iter().map(|row| row[0] == class as f64).collect();
        of[0].push(auroc(&scores, &is).map(|area| area.auroc));
        of[1].push(average_precision(&scores, &is));
    }
    let (mut right, mut loss) = (0, 0.0);
    for (p, m) in predicted.iter().zip(measured) {
        let best = (0..classes).max_by(|&a, &b| p[a].total_cmp(&p[b]));
        right += usize::from(best == Some(m[0] as usize));
        loss -= p[m[0] as usize].max(1e-12).ln();
    }
    let n = measured.len();
    let [auroc, auprc] = of.map(mean_of);
    Metrics {
        n,
        auroc,
        auprc,
        accuracy: (n > 0).then(|| right as f64 / n as f64),
        log_loss: (n > 0).then(|| loss / n as f64),
        ..Metrics::default()
    }
}

fn multilabel(predicted: &[Vec<f64>], measured: &[Vec<f64>]) -> Metrics {
    let labels = measured.first().map_or(0, Vec::len);
    let mut of: [Vec<Option<f64>>; 2] = Default::default();
    let (mut right, mut count, mut loss) = (0usize, 0usize, 0.0);
    for k in 0..labels {
        let known: Vec<(f64, bool)> = predicted
            .iter()
            .zip(measured)
            .filter(|(_, m)| !m[k].is_nan())
            .map(|(p, m)| (p[k], m[k] > 0.5))
            .collect();
        let (scores, is): (Vec<f64>, Vec<bool>) = known.iter().copied().unzip();
        of[0].push(auroc(&scores, &is).map(|area| area.auroc));
        of[1].push(average_precision(&scores, &is));
        for (p, is) in known {
            right += usize::from((p > 0.5) == is);
            count += 1;
            loss -= (if is { p } else { 1.0 - p }).max(1e-12).ln();
        }
    }
    let [auroc, auprc] = of.map(mean_of);
    Metrics {
        n: measured.len(),
        auroc,
        auprc,
        accuracy: (count > 0).then(|| right as f64 / count as f64),
        log_loss: (count > 0).then(|| loss / count as f64),
        ..Metrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f64]) -> Vec<Vec<f64>> {
        values.iter().map(|&value| vec![value]).collect()
    }

    #[test]
    fn numbers_are_compared_by_rank_and_value() {
        let m = Metrics::of(
            Task::Regression,
            &rows(&[1.0, 2.0, 2.0, 8.0]),
            &rows(&[1.0, 2.0, 3.0, 4.0]),
        );
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
        assert!((m.spearman.unwrap() - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
        assert!((m.r2.unwrap() - (1.0 - 17.0 / 5.0)).abs() < 1e-12);
        assert_eq!(m.score(Choice::R2), m.r2.unwrap());
        assert_eq!(
            m.score(Choice::Correlation),
            (m.spearman.unwrap() + m.pearson.unwrap()) / 2.0
        );
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn classes_and_labels_are_counted() {
        let p = vec![
            vec![0.9, 0.1],
            vec![0.6, 0.4],
            vec![0.2, 0.8],
            vec![0.55, 0.45],
        ];
        let m = Metrics::of(Task::Classification, &p, &rows(&[0.0, 0.0, 1.0, 1.0]));
        assert_eq!((m.auroc, m.accuracy), (Some(1.0), Some(0.75)));
        let mut labels = rows(&[0.0, 0.0, 1.0, 1.0]);
        labels.push(vec![f64::NAN]);
        let p = rows(&[0.1, 0.4, 0.8, 0.45, 0.9]);
        let m = Metrics::of(Task::Multilabel, &p, &labels);
        assert_eq!((m.auroc, m.accuracy, m.n), (Some(1.0), Some(0.75), 5));
    }
}
