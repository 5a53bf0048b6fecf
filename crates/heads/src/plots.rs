//! Plots of a training.

use std::path::Path;

use cistron_report::{Axis, Bar, BarPlot, Level, LinePlot, ScatterPlot, Series, save};

use crate::dataset::{Dataset, Task};
use crate::error::HeadError;
use crate::metrics::{Metrics, mean};
use crate::run::Outcome;

/// Groups of predictions in a calibration curve.
const GROUPS: usize = 10;

/// Draws `learning-curve.svg`, and where rows were tested `predicted-measured.svg` (for numbers),
/// `calibration.svg` and `baselines.svg` into `folder`, which exists.
///
/// # Errors
///
/// A plot cannot be drawn or written.
pub fn draw(data: &Dataset, outcome: &Outcome, folder: &Path) -> Result<(), HeadError> {
    let write =
        |name: &str, svg: String| -> Result<(), HeadError> { Ok(save(&folder.join(name), &svg)?) };
    write("learning-curve.svg", learning(outcome).svg()?)?;
    if outcome.predictions.is_empty() {
        return Ok(());
    }
    let task = outcome.report.task;
    if task == Task::Regression {
        write("predicted-measured.svg", scatter(data, outcome).svg()?)?;
    }
    write("calibration.svg", calibration(data, outcome).svg()?)?;
    if let Some(plot) = baselines(outcome) {
        write("baselines.svg", plot.svg()?)?;
    }
    Ok(())
}

/// The validation score of every network over epochs, with the baselines' as levels.
fn learning(outcome: &Outcome) -> LinePlot {
    let report = &outcome.report;
    let mut series = Vec::new();
    for fold in &report.folds {
        for (i, member) in fold.members.iter().enumerate() {
            let points = member
                .fit
                .epochs
                .iter()
                .filter_map(|e| Some((e.epoch as f64, e.validation_score?)));
            series.push(Series::new(
                format!("fold {}, member {i}", fold.name),
                points,
            ));
        }
    }
    let measured = series.iter().any(|s| !s.points.is_empty());
    if !measured {
        let folds = report.folds.iter().flat_map(|fold| &fold.members);
        series = folds
            .map(|member| {
                let points = member
                    .fit
                    .epochs
                    .iter()
                    .map(|e| (e.epoch as f64, e.train_loss));
                Series::new("training loss", points)
            })
            .collect();
    }
    series.truncate(12);
    let first = report.folds.first();
    let levels = first.filter(|_| measured).map(|fold| {
        let level = |baseline: &crate::run::BaselineReport| {
            let score = baseline.validation.score(report.training.choice);
            Level::new(baseline.name.name(), score)
        };
        fold.baselines.iter().map(level).collect()
    });
    let label = match measured {
        true => format!(
            "validation {}",
            Metrics::score_name(report.task, report.training.choice)
        ),
        false => "training loss".into(),
    };
    LinePlot {
        title: "Learning curve".into(),
        x: Axis::linear("epoch"),
        y: Axis::linear(label),
        series,
        levels: levels.unwrap_or_default(),
    }
}

fn scatter(data: &Dataset, outcome: &Outcome) -> ScatterPlot {
    let series = data.target_names.iter().enumerate().map(|(k, name)| {
        let point = |p: &crate::run::Prediction| (data.targets[p.row][k], p.head[k]);
        Series::new(name.as_str(), outcome.predictions.iter().map(point))
    });
    ScatterPlot {
        title: "Predicted against measured, test rows".into(),
        x: Axis::linear("measured"),
        y: Axis::linear("predicted"),
        series: series.collect(),
    }
}

/// Test rows in groups of equal size by prediction: the mean measurement of each.
fn calibration(data: &Dataset, outcome: &Outcome) -> LinePlot {
    let task = outcome.report.task;
    let outputs = outcome.predictions[0].head.len();
    let names: Vec<&String> = match task {
        Task::Classification => data.classes.iter().collect(),
        _ => data.target_names.iter().collect(),
    };
    let mut series = Vec::new();
    for k in (0..outputs).filter(|&k| task != Task::Classification || outputs > 2 || k == 1) {
        let mut pairs: Vec<(f64, f64)> = outcome
            .predictions
            .iter()
            .map(|p| {
                let measured = match task {
                    Task::Classification => f64::from(u8::from(data.targets[p.row][0] == k as f64)),
                    _ => data.targets[p.row][k],
                };
                (p.head[k], measured)
            })
            .filter(|(_, measured)| measured.is_finite())
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = pairs.len().div_ceil(GROUPS).max(1);
        let point = |group: &[(f64, f64)]| {
            let (p, m): (Vec<f64>, Vec<f64>) = group.iter().copied().unzip();
            (mean(&p), mean(&m))
        };
        series.push(Series::new(
            names[k].as_str(),
            pairs.chunks(size).map(point),
        ));
    }
    let ends: Vec<f64> = series
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.0))
        .collect();
    let low = ends.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    series.truncate(6);
    series.push(Series::new("equal", [(low, low), (high, high)]));
    LinePlot {
        title: "Calibration, test rows in tenths by prediction".into(),
        x: Axis::linear("mean prediction"),
        y: Axis::linear("mean measurement"),
        series,
        levels: Vec::new(),
    }
}

fn baselines(outcome: &Outcome) -> Option<BarPlot> {
    let measure = match outcome.report.task {
        Task::Regression => "spearman",
        _ => "auroc",
    };
    let value = |name: &str| Some(outcome.report.summary.get(name)?.get(measure)?.mean);
    let mut bars = vec![Bar::subject("head", value("head")?)];
    for baseline in &outcome.report.folds.first()?.baselines {
        let name = baseline.name.name();
        bars.extend(value(name).map(|value| Bar::baseline(name, value)));
    }
    Some(BarPlot {
        title: "Test rows, the head beside its baselines".into(),
        value: Axis::linear(measure),
        bars,
        decimals: 3,
    })
}
