//! `plots/loss.svg`.

use std::path::Path;

use cistron_report::{Axis, LinePlot, Series, save};

use crate::TrainError;
use crate::metrics::Record;

/// Points of the training line; with more steps each is the mean of some.
const POINTS: usize = 400;

/// Draws training and validation loss in bits a base over the steps; nothing before there
/// is any.
///
/// # Errors
///
/// The file cannot be written.
pub fn draw(records: &[Record], path: &Path) -> Result<(), TrainError> {
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Train(record) => training.push((record.step as f64, record.bits_per_base)),
            Record::Eval(record) => validation.push((record.step as f64, record.bits_per_base)),
        }
    }
    let series: Vec<Series> = [("training", thin(&training)), ("validation", validation)]
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| Series::new(name, points))
        .collect();
    if series.is_empty() {
        return Ok(());
    }
    let plot = LinePlot {
        title: "Loss".into(),
        x: Axis::linear("step"),
        y: Axis::linear("bits per base"),
        series,
        levels: Vec::new(),
    };
    Ok(save(path, &plot.svg()?)?)
}

/// At most [`POINTS`] points, each the mean of as many neighbours.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(size)
        .map(|chunk| {
            let count = chunk.len() as f64;
            let sum = chunk
                .iter()
                .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / count, sum.1 / count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_averaged() {
        let points: Vec<(f64, f64)> = (0..1000)
            .map(|i| (f64::from(i), f64::from(i % 2)))
            .collect();
        assert_eq!(thin(&points[..3]), points[..3]);
        let thinned = thin(&points);
        assert_eq!(thinned.len(), 334);
        assert_eq!(thinned[0], (1.0, 1.0 / 3.0));
        assert!(thin(&[]).is_empty());
    }
}
