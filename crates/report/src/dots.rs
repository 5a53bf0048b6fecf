//! Dots with intervals: the same measures of several groups, row by row.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Text};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, IntoFont, TextStyle};
use serde::{Deserialize, Serialize};

use crate::canvas::{
    Drawn, Key, Look, NARROW, Sheet, TEXT, draw_sized, label, no_data, pen, text_of, width_of,
};
use crate::coordinate::Coordinate;
use crate::palette::{GRID, INK, colour};
use crate::{Axis, ReportError};

const ROW: i32 = 56;
const MARGIN: i32 = 24;

/// A measure with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dot {
    /// The measure; one that is not finite is left out.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The measures of one group, one for each row; none where there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DotGroup {
    /// Name in the legend.
    pub name: String,
    /// The measures.
    pub dots: Vec<Option<Dot>>,
}

/// Rows of dots from top to bottom, a colour for each group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DotPlot {
    /// Heading.
    pub title: String,
    /// What the dots show.
    pub value: Axis,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// The groups.
    pub groups: Vec<DotGroup>,
}

impl DotPlot {
    /// Draws the plot, narrow enough for a telephone.
    ///
    /// # Errors
    /// A value is not above zero on a logarithmic axis, or the axis has an impossible range.
    pub fn svg(&self) -> Result<String, ReportError> {
        let values: Vec<(String, f64)> = self
            .groups
            .iter()
            .flat_map(|group| {
                let dots = group.dots.iter().flatten();
                dots.flat_map(|dot| [dot.value, dot.low, dot.high].map(|v| (group.name.clone(), v)))
            })
            .filter(|(_, value)| value.is_finite())
            .collect();
        let x = self.value.fit(&self.title, values.into_iter(), 4)?;
        let rows = Axis::linear("").with_range(0.0, self.rows.len().max(1) as f64);
        let y = rows.fit(&self.title, [(String::new(), 0.0)].into_iter(), 1)?;
        let keys: Vec<Key> = self
            .groups
            .iter()
            .enumerate()
            .map(|(i, group)| Key {
                name: group.name.clone(),
                colour: colour(i),
                look: Look::Block,
            })
            .collect();
        let legend = (TEXT + 10) * keys.len() as i32;
        let height = 2 * MARGIN + 4 * TEXT + 40 + legend + ROW * self.rows.len().max(1) as i32;
        draw_sized(&self.title, (NARROW, height), &keys, |sheet| {
            self.draw(sheet, x, y)
        })
    }

    fn draw(&self, sheet: &Sheet, x: Coordinate, y: Coordinate) -> Drawn {
        let left = self.rows.iter().map(|row| width_of(row)).max().unwrap_or(0);
        let mut chart = ChartBuilder::on(sheet)
            .margin(MARGIN)
            .margin_right(2 * MARGIN)
            .x_label_area_size(3 * TEXT)
            .y_label_area_size(left.min(NARROW / 2) + MARGIN)
            .build_cartesian_2d(x.clone(), y)
            .map_err(text_of)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(plotters::style::TRANSPARENT)
            .axis_style(INK.stroke_width(2))
            .label_style(TextStyle::from(("sans-serif", TEXT).into_font()).color(&INK))
            .x_desc(self.value.label.as_str())
            .draw()
            .map_err(text_of)?;
        if self
            .groups
            .iter()
            .all(|group| group.dots.iter().all(Option::is_none))
        {
            no_data(sheet)?;
        }
        let base = sheet.get_base_pixel();
        let start = x.clamp(f64::NEG_INFINITY);
        for (i, row) in self.rows.iter().enumerate() {
            let middle = self.rows.len() as f64 - i as f64 - 0.5;
            let (px, py) = chart.backend_coord(&(start, middle));
            let name = Text::new(
                row.clone(),
                (px - base.0 - 14, py - base.1),
                label(HPos::Right),
            );
            sheet.draw(&name).map_err(text_of)?;
            for (g, group) in self.groups.iter().enumerate() {
                let Some(Some(dot)) = group
                    .dots
                    .get(i)
                    .filter(|dot| dot.is_some_and(|d| d.value.is_finite()))
                else {
                    continue;
                };
                let share = (g as f64 + 1.0) / (self.groups.len() as f64 + 1.0);
                let height = middle + 0.4 - 0.8 * share;
                let ends = [(x.clamp(dot.low), height), (x.clamp(dot.high), height)];
                let line = PathElement::new(ends, pen(colour(g)));
                chart.draw_series([line]).map_err(text_of)?;
                let point = Circle::new((x.clamp(dot.value), height), 8, colour(g).filled());
                chart.draw_series([point]).map_err(text_of)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_dot_is_drawn_with_its_row() {
        let dot = |value| {
            Some(Dot {
                value,
                low: value - 0.1,
                high: value + 0.1,
            })
        };
        let plot = DotPlot {
            title: "t".into(),
            value: Axis::linear("boundaries a base"),
            rows: vec!["one".into(), "two".into()],
            groups: vec![
                DotGroup {
                    name: "model".into(),
                    dots: vec![dot(0.3), dot(f64::NAN)],
                },
                DotGroup {
                    name: "chance".into(),
                    dots: vec![dot(0.5), None],
                },
            ],
        };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        for text in ["one", "two", "model", "chance", "boundaries a base"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
        assert!(svg.starts_with("<svg width=\"450\""));
    }
}
