//! What a run found.

use std::collections::BTreeMap;

use cistron_model::lyra::{Lyra, LyraConfig};
use serde::{Deserialize, Serialize};

use super::jobs::{Context, Done, Kind, in_units};
use crate::baseline::Baseline;
use crate::dataset::Task;
use crate::folder::Description;
use crate::metrics::{Metrics, deviation, mean};
use crate::trainer::{Fit, Training};

/// `metrics.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Version of the tool.
    pub tool_version: String,
    /// The command.
    pub command: String,
    /// The table.
    pub table: String,
    /// What was learned.
    pub task: Task,
    /// Rows that were used.
    pub rows: usize,
    /// Decisions about the data.
    pub notes: Vec<String>,
    /// Parameters of one network of the head.
    pub parameters: usize,
    /// The network.
    pub lyra: LyraConfig,
    /// How it was trained.
    pub training: Training,
    /// Every fold.
    pub folds: Vec<FoldReport>,
    /// Test measures over folds, of the head as `head` and of each baseline.
    pub summary: BTreeMap<String, Summary>,
    /// Seconds in all.
    pub seconds: f64,
}

/// One fold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FoldReport {
    /// Its name.
    pub name: String,
    /// Rows trained on.
    pub train: usize,
    /// Rows that stopped the training.
    pub validation: usize,
    /// Rows of the test.
    pub test: usize,
    /// The head on the test rows, the mean of its members.
    pub head: Metrics,
    /// The head on the validation rows.
    pub head_validation: Metrics,
    /// Each member.
    pub members: Vec<MemberReport>,
    /// Each baseline.
    pub baselines: Vec<BaselineReport>,
}

/// One network of a head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberReport {
    /// Alone on the test rows.
    pub test: Metrics,
    /// Alone on the validation rows.
    pub validation: Metrics,
    /// How training went.
    #[serde(flatten)]
    pub fit: Fit,
}

/// One baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BaselineReport {
    /// Which.
    pub name: Baseline,
    /// On the test rows.
    pub test: Metrics,
    /// On the validation rows.
    pub validation: Metrics,
    /// Number of parameters.
    pub parameters: usize,
    /// The penalty that validation chose, of a ridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Seconds.
    pub seconds: f64,
}

/// Measures over folds.
pub type Summary = BTreeMap<String, Spread>;

/// Mean and standard deviation over folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; 0 of one fold.
    pub deviation: f64,
    /// Number of folds.
    pub folds: usize,
}

/// A test row.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The fold that it was the test of.
    pub fold: usize,
    /// Row of the dataset.
    pub row: usize,
    /// Of the head: numbers in units of the target, or probabilities.
    pub head: Vec<f64>,
    /// Standard deviation over members; empty for one member.
    pub deviation: Vec<f64>,
    /// Of each baseline, in the order of the options.
    pub baselines: Vec<Vec<f64>>,
}

/// A trained head with what was found.
#[derive(Debug)]
pub struct Outcome {
    /// What the head is.
    pub description: Description,
    /// Its networks by fold.
    pub members: Vec<Vec<Lyra>>,
    /// Measures.
    pub report: Report,
    /// Test rows, by fold.
    pub predictions: Vec<Prediction>,
}

/// Puts the results of all jobs together.
pub fn assemble(
    context: &Context<'_>,
    mut description: Description,
    notes: Vec<String>,
    parameters: usize,
    done: Vec<Done>,
    seconds: f64,
) -> Outcome {
    let (data, options) = (context.data, context.options);
    let task = options.task;
    let mut by_fold: Vec<Vec<Done>> = context.splits.iter().map(|_| Vec::new()).collect();
    for result in done {
        by_fold[result.fold].push(result);
    }
    let (mut members, mut folds, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
    for (fold, results) in by_fold.into_iter().enumerate() {
        let split = &context.splits[fold];
        let pick = |rows: &[usize]| -> Vec<Vec<f64>> {
            rows.iter().map(|&row| data.targets[row].clone()).collect()
        };
        let (tested, validated) = (pick(&split.test), pick(&split.validation));
        let scales = description.folds[fold].scales.clone();
        let units = |rows: Vec<Vec<f64>>| in_units(task, &scales, rows);
        let of = |rows: &[Vec<f64>], measured: &[Vec<f64>]| Metrics::of(task, rows, measured);
        let (networks, others): (Vec<Done>, Vec<Done>) = results
            .into_iter()
            .partition(|result| matches!(result.kind, Kind::Member(_)));
        let test: Vec<&Vec<Vec<f64>>> = networks.iter().map(|result| &result.test).collect();
        let validation: Vec<&Vec<Vec<f64>>> = networks.iter().map(|r| &r.validation).collect();
        let (head, spread) = ensemble(&test);
        let head = units(head);
        let head_validation = units(ensemble(&validation).0);
        let validation_metrics = of(&head_validation, &validated);
        description.folds[fold].residual =
            validation_metrics.rmse.filter(|_| !validated.is_empty());
        let baselines: Vec<(BaselineReport, Vec<Vec<f64>>)> = others
            .into_iter()
            .filter_map(|result| {
                let Kind::Baseline(name) = result.kind else {
                    return None;
                };
                let test = units(result.test);
                let report = BaselineReport {
                    name,
                    test: of(&test, &tested),
                    validation: of(&units(result.validation), &validated),
                    parameters: result.parameters,
                    penalty: result.penalty,
                    seconds: result.seconds,
                };
                Some((report, test))
            })
            .collect();
        for (i, &row) in split.test.iter().enumerate() {
            predictions.push(Prediction {
                fold,
                row,
                head: head[i].clone(),
                deviation: match spread.get(i) {
                    Some(spread) if task == Task::Regression => spread
                        .iter()
                        .zip(&scales)
                        .zip(&head[i])
                        .map(|((&s, scale), &centre)| width(scale, centre, s))
                        .collect(),
                    Some(spread) => spread.clone(),
                    None => Vec::new(),
                },
                baselines: baselines.iter().map(|(_, rows)| rows[i].clone()).collect(),
            });
        }
        let mut reports = Vec::new();
        let mut lyras = Vec::new();
        for result in networks {
            let (Some(fit), Some(network)) = (result.fit, result.network) else {
                continue;
            };
            reports.push(MemberReport {
                test: of(&units(result.test), &tested),
                validation: of(&units(result.validation), &validated),
                fit,
            });
            lyras.push(network);
        }
        members.push(lyras);
        folds.push(FoldReport {
            name: split.name.clone(),
            train: split.train.len(),
            validation: split.validation.len(),
            test: split.test.len(),
            head: of(&head, &tested),
            head_validation: validation_metrics,
            members: reports,
            baselines: baselines.into_iter().map(|(report, _)| report).collect(),
        });
    }
    let report = Report {
        tool_version: options.tool_version.clone(),
        command: options.command.clone(),
        table: data.path.display().to_string(),
        task,
        rows: data.len(),
        notes,
        parameters,
        lyra: description.lyra.clone(),
        training: context.training.clone(),
        summary: summary(&folds),
        folds,
        seconds,
    };
    Outcome {
        description,
        members,
        report,
        predictions,
    }
}

/// A standard deviation in learned units as one in units of the target, at `centre`.
pub(crate) fn width(scale: &crate::scale::Scale, centre: f64, deviation: f64) -> f64 {
    let at = scale.forward(centre);
    (scale.backward(at + deviation) - scale.backward(at - deviation)).abs() / 2.0
}

/// The mean of members, and their standard deviation where there are several.
pub(crate) fn ensemble(members: &[&Vec<Vec<f64>>]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let rows = members.first().map_or(0, |rows| rows.len());
    let of = |measure: fn(&[f64]) -> f64| -> Vec<Vec<f64>> {
        (0..rows)
            .map(|row| {
                (0..members[0][row].len())
                    .map(|k| {
                        let values: Vec<f64> = members.iter().map(|m| m[row][k]).collect();
                        measure(&values)
                    })
                    .collect()
            })
            .collect()
    };
    let spread = if members.len() > 1 {
        of(deviation)
    } else {
        Vec::new()
    };
    (of(mean), spread)
}

fn summary(folds: &[FoldReport]) -> BTreeMap<String, Summary> {
    let mut values: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for fold in folds.iter().filter(|fold| fold.test > 0) {
        let heads = std::iter::once(("head", &fold.head));
        let baselines = fold.baselines.iter().map(|b| (b.name.name(), &b.test));
        for (name, metrics) in heads.chain(baselines) {
            let of = values.entry(name.into()).or_default();
            for (measure, value) in [
                ("spearman", metrics.spearman),
                ("pearson", metrics.pearson),
                ("r2", metrics.r2),
                ("rmse", metrics.rmse),
                ("auroc", metrics.auroc),
                ("auprc", metrics.auprc),
                ("accuracy", metrics.accuracy),
                ("log_loss", metrics.log_loss),
            ] {
                of.entry(measure.into()).or_default().extend(value);
            }
        }
    }
    let spread = |values: Vec<f64>| Spread {
        mean: mean(&values),
        deviation: deviation(&values),
        folds: values.len(),
    };
    values
        .into_iter()
        .map(|(name, measures)| {
            let of = measures
                .into_iter()
                .filter(|(_, values)| !values.is_empty());
            (
                name,
                of.map(|(measure, values)| (measure, spread(values)))
                    .collect(),
            )
        })
        .collect()
}
