//! Sequence logos: letters as tall as the information that they carry.

use plotters::element::Polygon;
use plotters::style::{Color, RGBColor};
use serde::{Deserialize, Serialize};

use crate::canvas::{NARROW, chart, draw_sized, text_of};
use crate::{Axis, ReportError};

/// Letters A, C, G and T of one position with their heights, and the axes around them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogoPlot {
    /// Heading.
    pub title: String,
    /// What is below the letters.
    pub x: Axis,
    /// What their heights mean.
    pub y: Axis,
    /// Position of the first column.
    pub first: i64,
    /// Heights of A, C, G and T in each column.
    pub columns: Vec<[f64; 4]>,
}

/// Colours of A, C, G and T: green, blue, orange and vermilion, apart for colour-blind readers.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
];

impl LogoPlot {
    /// Draws the logo, narrow enough for a telephone.
    ///
    /// # Errors
    /// An axis has an impossible range.
    pub fn svg(&self) -> Result<String, ReportError> {
        let ends = (
            self.first as f64 - 0.6,
            self.first as f64 + self.columns.len() as f64 - 0.4,
        );
        let top = self.columns.iter().map(|column| column.iter().sum::<f64>());
        let top = top.fold(0.0, f64::max).max(1e-3) * 1.05;
        let none = std::iter::empty;
        let x = self.x.clone().with_range(ends.0, ends.1);
        let x = x.fit(&self.title, none(), 5)?;
        let y_range = self.y.range.unwrap_or((0.0, top));
        let y = self.y.clone().with_range(y_range.0, y_range.1);
        let y = y.fit(&self.title, none(), 5)?;
        draw_sized(&self.title, (NARROW, NARROW / 2), &[], |sheet| {
            let mut chart = chart(sheet, (&self.x, &self.y), (x, y))?;
            for (position, column) in (self.first..).zip(&self.columns) {
                let mut order = [0, 1, 2, 3];
                order.sort_by(|&a, &b| column[a].total_cmp(&column[b]));
                let mut foot = 0.0;
                for letter in order.into_iter().filter(|&letter| column[letter] > 0.0) {
                    let height = column[letter];
                    for (points, solid) in shape(letter) {
                        let place = |&(u, v): &(f64, f64)| {
                            (position as f64 - 0.45 + 0.9 * u, foot + height * v)
                        };
                        let points: Vec<(f64, f64)> = points.iter().map(place).collect();
                        let fill = if solid {
                            COLOURS[letter]
                        } else {
                            plotters::style::WHITE
                        };
                        let polygon = Polygon::new(points, fill.filled());
                        chart.draw_series([polygon]).map_err(text_of)?;
                    }
                    foot += height;
                }
            }
            Ok(())
        })
    }
}

type Shape = Vec<(Vec<(f64, f64)>, bool)>;

/// Parts of a letter in the unit square, filled or cut out.
fn shape(letter: usize) -> Shape {
    let ring = |from: f64, to: f64, (rx, ry): (f64, f64)| -> Vec<(f64, f64)> {
        (0..=24)
            .map(|i| (from + (to - from) * f64::from(i) / 24.0).to_radians())
            .map(|angle| (0.5 + rx * angle.cos(), 0.5 + ry * angle.sin()))
            .collect()
    };
    let arc = || {
        let mut points = ring(40.0, 320.0, (0.5, 0.5));
        let mut inner = ring(40.0, 320.0, (0.32, 0.36));
        inner.reverse();
        points.extend(inner);
        points
    };
    match letter {
        0 => vec![
            (
                vec![
                    (0.0, 0.0),
                    (0.4, 1.0),
                    (0.6, 1.0),
                    (1.0, 0.0),
                    (0.8, 0.0),
                    (0.5, 0.8),
                    (0.2, 0.0),
                ],
                true,
            ),
            (
                vec![(0.22, 0.22), (0.78, 0.22), (0.72, 0.38), (0.28, 0.38)],
                true,
            ),
        ],
        1 => vec![(arc(), true)],
        2 => vec![
            (arc(), true),
            (
                vec![
                    (0.55, 0.48),
                    (0.95, 0.48),
                    (0.95, 0.12),
                    (0.78, 0.12),
                    (0.78, 0.34),
                    (0.55, 0.34),
                ],
                true,
            ),
        ],
        _ => vec![
            (vec![(0.0, 1.0), (1.0, 1.0), (1.0, 0.84), (0.0, 0.84)], true),
            (
                vec![(0.41, 0.84), (0.59, 0.84), (0.59, 0.0), (0.41, 0.0)],
                true,
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_drawn_where_they_have_height() {
        let plot = |columns| LogoPlot {
            title: "t".into(),
            x: Axis::linear("offset, bases"),
            y: Axis::linear("bits"),
            first: -1,
            columns,
        };
        let drawn = |columns| plot(columns).svg().unwrap().matches("<polygon").count();
        assert_eq!(drawn(vec![[0.0; 4]; 3]), 0);
        assert_eq!(
            drawn(vec![[0.5, 0.0, 0.0, 0.0], [0.0, 0.2, 0.1, 0.0]]),
            2 + 1 + 2
        );
        assert!(plot(vec![]).svg().is_ok());
    }
}
