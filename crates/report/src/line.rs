//! Lines: how something goes with something else.

use plotters::coord::ranged1d::Ranged;
use plotters::element::Circle;
use plotters::series::LineSeries;
use plotters::style::{Color, RGBColor};
use serde::{Deserialize, Serialize};

use crate::canvas::{
    HEIGHT, Key, Look, NARROW, WIDTH, chart, dashes, draw_sized, no_data, pen, text_of,
};
use crate::palette::{NEUTRAL, colour, is_dashed};
use crate::series::fit_with;
use crate::{Axis, ReportError, Series};

/// Up to this many points are drawn as dots too.
const FEW: usize = 40;

/// A horizontal line to compare with, such as a baseline's score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Name in the legend.
    pub name: String,
    /// Its height, in units of the y axis.
    pub value: f64,
}

impl Level {
    /// The line `name` at `value`.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

/// Several lines over one x axis. A line of few points shows them as dots; with more points
/// than the picture is wide, the extremes of each column are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinePlot {
    /// Heading.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The lines, points by ascending x.
    pub series: Vec<Series>,
    /// Horizontal lines to compare with; one that is not finite is left out.
    #[serde(default)]
    pub levels: Vec<Level>,
}

impl LinePlot {
    /// Draws the plot.
    ///
    /// # Errors
    /// A value is not above zero on a logarithmic axis, or an axis has an impossible range.
    /// A plot without any finite point is no error: it says so.
    pub fn svg(&self) -> Result<String, ReportError> {
        self.sized((WIDTH, HEIGHT))
    }

    /// Draws the plot about half as wide with labels of the same size, for narrow pages.
    ///
    /// # Errors
    /// As [`LinePlot::svg`].
    pub fn svg_narrow(&self) -> Result<String, ReportError> {
        self.sized((NARROW, NARROW * 3 / 4))
    }

    fn sized(&self, size: (i32, i32)) -> Result<String, ReportError> {
        let levels: Vec<&Level> = self.levels.iter().filter(|l| l.value.is_finite()).collect();
        let also = levels.iter().map(|l| (l.name.clone(), l.value));
        let axes = (&self.x, &self.y);
        let ticks = if size.0 < WIDTH { 5 } else { 9 };
        let looks = self.looks();
        let coordinates = fit_with(&self.title, axes, &self.series, also, ticks)?;
        let ends = coordinates.0.range();
        draw_sized(&self.title, size, &self.keys(&levels), |sheet| {
            let mut chart = chart(sheet, axes, coordinates)?;
            for (i, level) in levels.iter().enumerate() {
                let points = [(ends.start, level.value), (ends.end, level.value)];
                let line = dashes(points, level_colour(i, self.series.len()));
                chart.draw_series(line).map_err(text_of)?;
            }
            if self.series.iter().all(|s| s.finite().next().is_none()) {
                no_data(sheet)?;
            }
            for (series, (colour, look)) in self.series.iter().zip(&looks) {
                if series.points.len() <= FEW {
                    let dot = |point| Circle::new(point, 7, colour.filled());
                    chart
                        .draw_series(series.finite().map(dot))
                        .map_err(text_of)?;
                }
                for stretch in series.stretches() {
                    let points = thin(stretch, WIDTH as usize);
                    match look {
                        Look::Dashes => chart.draw_series(dashes(points, *colour)),
                        _ => chart.draw_series(LineSeries::new(points, pen(*colour))),
                    }
                    .map_err(text_of)?;
                }
            }
            Ok(())
        })
    }

    /// Colour of each series, and whether it is a line or dashes.
    fn looks(&self) -> Vec<(RGBColor, Look)> {
        let mut colours = 0;
        let look = |series: &Series| {
            if series.beside && colours > 0 {
                return (colour(colours - 1), Look::Dashes);
            }
            colours += 1;
            let look = match is_dashed(colours - 1) {
                true => Look::Dashes,
                false => Look::Line,
            };
            (colour(colours - 1), look)
        };
        self.series.iter().map(look).collect()
    }

    /// One series alone needs no legend.
    fn keys(&self, levels: &[&Level]) -> Vec<Key> {
        let looks = self.looks();
        let series = self.series.iter().zip(looks).map(|(series, look)| Key {
            name: series.name.clone(),
            colour: look.0,
            look: look.1,
        });
        let levels = levels.iter().enumerate().map(|(i, level)| Key {
            name: level.name.clone(),
            colour: level_colour(i, self.series.len()),
            look: Look::Dashes,
        });
        let keys: Vec<Key> = series.chain(levels).collect();
        if keys.len() > 1 { keys } else { vec![] }
    }
}

/// The first level is grey, the others take the colours that the series leave.
fn level_colour(index: usize, series: usize) -> plotters::style::RGBColor {
    match index {
        0 => NEUTRAL,
        _ => colour(series + index - 1),
    }
}

/// At most about two points for each of `columns` groups of neighbours: the lowest and the
/// highest, so that no spike is lost.
fn thin(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    if points.len() <= 2 * columns {
        return points.to_vec();
    }
    let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    points
        .chunks(points.len().div_ceil(columns))
        .flat_map(|group| {
            let low = group.iter().min_by(by_height);
            let high = group.iter().max_by(by_height);
            let mut pair: Vec<_> = low.into_iter().chain(high).copied().collect();
            pair.sort_by(|a, b| a.0.total_cmp(&b.0));
            pair.dedup();
            pair
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(series: Vec<Series>) -> LinePlot {
        LinePlot {
            title: "Training".into(),
            x: Axis::linear("step"),
            y: Axis::linear("bits per base"),
            series,
            levels: vec![],
        }
    }

    fn polylines(svg: &str) -> Vec<usize> {
        svg.lines()
            .filter(|line| line.contains("<polyline") && line.contains("stroke-width=\"4\""))
            .filter_map(|line| line.split("points=\"").nth(1))
            .map(|points| points.matches(',').count())
            .collect()
    }

    #[test]
    fn titles_labels_and_legend_are_there() {
        let mut p = plot(vec![
            Series::new("train", [(0.0, 2.0), (10.0, 1.9)]),
            Series::new("val < 1", [(0.0, 2.0), (10.0, 1.95)]),
        ]);
        p.levels.push(Level::new("order-2 Markov", 1.94));
        p.levels.push(Level::new("unknown", f64::NAN));
        let svg = p.svg().unwrap();
        for text in [
            "Training",
            "step",
            "bits per base",
            "train",
            "val &lt; 1",
            "order-2 Markov",
        ] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
        assert!(!svg.contains("unknown"));
        assert!(svg.contains("\n1.92\n") && svg.contains("\n10\n"));
        assert!(svg.contains("#0072B2") && svg.contains("#E69F00") && svg.contains("#969696"));
    }

    #[test]
    fn a_series_beside_another_has_its_colour() {
        let points = [(0.0, 2.0), (1.0, 1.0)];
        let svg = plot(vec![
            Series::new("runs", points),
            Series::new("fit", points).beside(),
            Series::new("others", points),
        ])
        .svg()
        .unwrap();
        assert!(svg.contains("#0072B2") && svg.contains("#E69F00"));
        assert!(!svg.contains("#009E73"), "a third colour");
        assert!(svg.contains("\nfit\n"));
    }

    #[test]
    fn one_series_has_no_legend() {
        let svg = plot(vec![Series::new("loss", [(0.0, 2.0), (1.0, 1.0)])])
            .svg()
            .unwrap();
        assert!(!svg.contains("\nloss\n"));
        assert_eq!(polylines(&svg), [2]);
    }

    #[test]
    fn a_missing_value_breaks_the_line() {
        let points = [
            (0.0, 1.0),
            (1.0, 2.0),
            (2.0, f64::NAN),
            (3.0, 1.0),
            (4.0, 2.0),
        ];
        let svg = plot(vec![Series::new("loss", points)]).svg().unwrap();
        assert_eq!(polylines(&svg), [2, 2]);
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn few_points_are_seen_and_none_are_no_error() {
        let svg = |series| plot(series).svg().unwrap();
        let one = svg(vec![Series::new("a", [(5.0, 5.0)]), Series::new("b", [])]);
        assert_eq!(one.matches("<circle").count(), 1);
        assert!(!one.contains("no data"));
        let many = svg(vec![Series::new(
            "a",
            (0..100).map(|i| (f64::from(i), 1.0)),
        )]);
        assert!(!many.contains("<circle"));
        for none in [vec![], vec![Series::new("a", [(0.0, f64::NAN)])]] {
            let none = svg(none);
            assert!(none.contains("\nno data\n") && !none.contains("NaN"));
        }
    }

    #[test]
    fn long_series_are_thinned_and_keep_their_spikes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 9.0;
        let thinned = thin(&points, 1600);
        assert!(thinned.len() <= 3200);
        assert!(thinned.contains(&(54_321.0, 9.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thin(&points[..3000], 1600).len(), 3000);
    }

    #[test]
    fn plots_are_read_from_json() {
        let p = plot(vec![Series::new("a", [(1.0, 2.0)])]);
        let json = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<LinePlot>(&json).unwrap(), p);
    }
}
