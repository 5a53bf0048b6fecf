//! Histograms: how values are spread.

use serde::{Deserialize, Serialize};

use crate::{Axis, LinePlot, ReportError, Series};

/// Named values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Name in the legend.
    pub name: String,
    /// The values; those that are not finite are left out.
    pub values: Vec<f64>,
}

/// The spread of one or several samples, each as the outline of its bars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Heading.
    pub title: String,
    /// What the values are; linear or logarithmic.
    pub x: Axis,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Number of bins over the range of all samples, at least 1.
    pub bins: usize,
}

impl Histogram {
    /// Draws the plot; the height of a bar is the share of its sample's values.
    ///
    /// # Errors
    /// As [`LinePlot::svg`].
    pub fn svg(&self) -> Result<String, ReportError> {
        let plot = LinePlot {
            title: self.title.clone(),
            x: self.x.clone(),
            y: Axis::linear("share of values"),
            series: self.outlines()?,
            levels: vec![],
        };
        plot.svg()
    }

    /// The outline of each sample's bars.
    fn outlines(&self) -> Result<Vec<Series>, ReportError> {
        let scale = self.x.scale;
        let finite = |s: &'_ Sample| -> Vec<f64> {
            s.values.iter().copied().filter(|v| v.is_finite()).collect()
        };
        let all = self.samples.iter().flat_map(|s| {
            let values = finite(s).into_iter();
            values.map(|value| (s.name.clone(), value))
        });
        // Checks the values against the scale.
        self.x.fit(&self.title, all, 9)?;
        if self.samples.iter().all(|s| finite(s).is_empty()) {
            return Ok(vec![]);
        }
        let places = || {
            self.samples
                .iter()
                .flat_map(finite)
                .map(|v| scale.forward(v))
        };
        let low = places().fold(f64::INFINITY, f64::min);
        let high = places().fold(f64::NEG_INFINITY, f64::max);
        let bins = self.bins.max(1);
        let width = match high - low {
            0.0 => 1.0 / bins as f64,
            span => span / bins as f64,
        };
        let outline = |sample: &Sample| {
            let values = finite(sample);
            let mut counts = vec![0_u64; bins];
            for v in &values {
                counts[(((scale.forward(*v) - low) / width) as usize).min(bins - 1)] += 1;
            }
            let edge = |i: usize| scale.backward(low + width * i as f64);
            let share = |count: u64| count as f64 / values.len().max(1) as f64;
            let tops = counts.iter().enumerate();
            let tops = tops.flat_map(|(i, &n)| [(edge(i), share(n)), (edge(i + 1), share(n))]);
            let closed = std::iter::once((edge(0), 0.0))
                .chain(tops)
                .chain([(edge(bins), 0.0)]);
            Series::new(sample.name.clone(), closed)
        };
        Ok(self.samples.iter().map(outline).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(x: Axis, values: Vec<f64>, bins: usize) -> Histogram {
        Histogram {
            title: "t".into(),
            x,
            samples: vec![Sample {
                name: "a".into(),
                values,
            }],
            bins,
        }
    }

    #[test]
    fn bars_hold_the_shares() {
        let h = histogram(Axis::linear("x"), vec![0.0, 0.1, 1.0, f64::NAN, 2.0], 2);
        assert_eq!(
            h.outlines().unwrap()[0].points,
            [
                (0.0, 0.0),
                (0.0, 0.5),
                (1.0, 0.5),
                (1.0, 0.5),
                (2.0, 0.5),
                (2.0, 0.0)
            ]
        );
        assert!(h.svg().unwrap().contains("share of values"));
    }

    #[test]
    fn one_value_and_log_scales_work() {
        assert!(histogram(Axis::linear("x"), vec![3.0; 5], 10).svg().is_ok());
        let h = histogram(Axis::log("x"), vec![1.0, 10.0, 100.0], 2);
        let edges: Vec<f64> = h.outlines().unwrap()[0]
            .points
            .iter()
            .map(|p| p.0)
            .collect();
        assert_eq!(edges, [1.0, 1.0, 10.0, 10.0, 100.0, 100.0]);
        let bad = histogram(Axis::log("x"), vec![0.0], 2).svg();
        assert!(matches!(bad, Err(ReportError::NotPositive { .. })));
        let none = histogram(Axis::linear("x"), vec![], 2).svg().unwrap();
        assert!(none.contains("no data"));
    }
}
