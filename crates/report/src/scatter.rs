//! Points: how two measures of the same things go together.

use plotters::element::Circle;
use plotters::style::Color;
use serde::{Deserialize, Serialize};

use crate::canvas::{HEIGHT, Key, Look, chart, draw, no_data, text_of};
use crate::palette::colour;
use crate::series::fit;
use crate::{Axis, ReportError, Series};

/// More points than these are not drawn: every n-th is.
const MOST: usize = 20_000;

/// Points of one or several groups. Of a group with more than 20,000 points, every n-th is
/// drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScatterPlot {
    /// Heading.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The groups of points.
    pub series: Vec<Series>,
}

impl ScatterPlot {
    /// Draws the plot.
    ///
    /// # Errors
    /// As [`LinePlot::svg`](crate::LinePlot::svg).
    pub fn svg(&self) -> Result<String, ReportError> {
        let axes = (&self.x, &self.y);
        let coordinates = fit(&self.title, axes, &self.series, [])?;
        let keys: Vec<Key> = self
            .series
            .iter()
            .enumerate()
            .filter(|_| self.series.len() > 1)
            .map(|(i, series)| Key {
                name: series.name.clone(),
                colour: colour(i),
                look: Look::Block,
            })
            .collect();
        draw(&self.title, HEIGHT, &keys, |sheet| {
            let mut chart = chart(sheet, axes, coordinates)?;
            if self.series.iter().all(|s| s.finite().next().is_none()) {
                no_data(sheet)?;
            }
            for (i, series) in self.series.iter().enumerate() {
                let every = series.points.len().div_ceil(MOST).max(1);
                let dots = series
                    .finite()
                    .step_by(every)
                    .map(|point| Circle::new(point, 5, colour(i).mix(0.6).filled()));
                chart.draw_series(dots).map_err(text_of)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(points: Vec<(f64, f64)>) -> usize {
        let plot = ScatterPlot {
            title: "t".into(),
            x: Axis::linear("x"),
            y: Axis::linear("y"),
            series: vec![Series::new("a", points)],
        };
        plot.svg().unwrap().matches("<circle").count()
    }

    #[test]
    fn finite_points_are_drawn_and_crowds_are_thinned() {
        assert_eq!(circles(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)]), 2);
        let crowd = (0..50_000).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(circles(crowd), 16_667);
    }
}
