//! `predictions.tsv` and `curves.tsv` of a training.

use std::fmt::Write;

use crate::dataset::{Dataset, Task};
use crate::run::Outcome;

/// Test rows with measurements, predictions and those of every baseline.
pub fn predictions(data: &Dataset, outcome: &Outcome) -> String {
    let task = outcome.report.task;
    let columns: &[String] = match task {
        Task::Classification => &data.classes,
        _ => &data.target_names,
    };
    let several = columns.len() > 1;
    let named = |what: &str, column: &String| match several {
        true => format!("{what}_{column}"),
        false => what.to_owned(),
    };
    let mut header = vec!["row".to_owned(), "name".into(), "fold".into()];
    match task {
        Task::Classification => header.push("measured".into()),
        _ => header.extend(columns.iter().map(|column| named("measured", column))),
    }
    header.extend(columns.iter().map(|column| named("predicted", column)));
    let with_deviation = outcome.predictions.iter().any(|p| !p.deviation.is_empty());
    if with_deviation {
        header.extend(columns.iter().map(|column| named("deviation", column)));
    }
    let baselines = outcome
        .report
        .folds
        .first()
        .map_or(&[][..], |fold| &fold.baselines);
    for baseline in baselines {
        header.extend(
            columns
                .iter()
                .map(|column| named(baseline.name.name(), column)),
        );
    }
    let mut text = header.join("\t") + "\n";
    for p in &outcome.predictions {
        let fold = &outcome.report.folds[p.fold].name;
        let _ = write!(text, "{}\t{}\t{fold}", data.rows[p.row], data.names[p.row]);
        let measured = &data.targets[p.row];
        match task {
            Task::Classification => {
                let _ = write!(text, "\t{}", data.classes[measured[0] as usize]);
            }
            _ => measured.iter().for_each(|value| push(&mut text, *value)),
        }
        p.head.iter().for_each(|value| push(&mut text, *value));
        if with_deviation {
            p.deviation.iter().for_each(|value| push(&mut text, *value));
        }
        p.baselines
            .iter()
            .flatten()
            .for_each(|value| push(&mut text, *value));
        text.push('\n');
    }
    text
}

/// Every epoch of every member.
pub fn curves(outcome: &Outcome) -> String {
    let mut text =
        "fold\tmember\tepoch\ttrain_loss\tvalidation_loss\tvalidation_score\n".to_owned();
    for fold in &outcome.report.folds {
        for (member, report) in fold.members.iter().enumerate() {
            for epoch in &report.fit.epochs {
                let _ = write!(text, "{}\t{member}\t{}", fold.name, epoch.epoch);
                push(&mut text, epoch.train_loss);
                push(&mut text, epoch.validation_loss.unwrap_or(f64::NAN));
                push(&mut text, epoch.validation_score.unwrap_or(f64::NAN));
                text.push('\n');
            }
        }
    }
    text
}

/// A tab and a number of six digits; `NA` for none.
pub(crate) fn push(text: &mut String, value: f64) {
    let _ = match value.is_finite() {
        true => write!(text, "\t{}", number(value)),
        false => write!(text, "\tNA"),
    };
}

/// A number of six significant digits, without an exponent where that is short.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if (1e-4..1e6).contains(&size) {
        let digits = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.5e}")
    }
}
