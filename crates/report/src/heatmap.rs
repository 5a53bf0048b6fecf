//! Heat maps: a value for each pair of things.

use plotters::element::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TextStyle};
use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::canvas::{Drawn, Sheet, TEXT, WIDTH, draw, label, no_data, text_of, width_of};
use crate::palette::{GRID, INK};

const MARGIN: i32 = 24;
/// Room right of the map for the scale.
const SCALE: i32 = 220;
/// With more names than these, every n-th is written.
const NAMES: usize = 40;

/// A value for each pair of a row and a column; one that is not finite is left blank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// Heading.
    pub title: String,
    /// What the colours show.
    pub label: String,
    /// Names of the rows, from above.
    pub rows: Vec<String>,
    /// Names of the columns, from the left.
    pub columns: Vec<String>,
    /// Values by row and column.
    pub values: Vec<Vec<f64>>,
    /// Whether values have a sign: blue below zero, white at it, vermilion above.
    #[serde(default)]
    pub is_signed: bool,
}

impl HeatMap {
    /// Draws the map.
    ///
    /// # Errors
    /// The drawing library refuses.
    pub fn svg(&self) -> Result<String, ReportError> {
        let (rows, columns) = (self.rows.len().max(1), self.columns.len().max(1));
        let left = self.rows.iter().map(|n| width_of(n)).max().unwrap_or(0) + 2 * MARGIN;
        let room = WIDTH - left - SCALE;
        let cell = (room / columns as i32).clamp(2, 64);
        let height = 3 * TEXT + 4 * MARGIN + cell * rows as i32 + 2 * TEXT;
        let finite = self.values.iter().flatten().filter(|v| v.is_finite());
        let (mut low, mut high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| {
            (l.min(v), h.max(v))
        });
        if self.is_signed {
            let size = low.abs().max(high.abs());
            (low, high) = (-size, size);
        } else {
            low = low.min(0.0);
        }
        let place = |value: f64| match high > low {
            true => (value - low) / (high - low),
            false => 0.5,
        };
        draw(&self.title, height, &[], |sheet| {
            if !(low.is_finite() && high.is_finite()) {
                return no_data(sheet);
            }
            let top = MARGIN;
            for (r, row) in self.values.iter().enumerate() {
                for (c, &value) in row.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                    let corner = (left + c as i32 * cell, top + r as i32 * cell);
                    let gap = i32::from(cell > 8);
                    let other = (corner.0 + cell - gap, corner.1 + cell - gap);
                    let colour = self.colour(place(value));
                    sheet
                        .draw(&Rectangle::new([corner, other], colour.filled()))
                        .map_err(text_of)?;
                }
            }
            self.names(sheet, left, top, cell)?;
            self.scale(sheet, (WIDTH - SCALE + 2 * MARGIN, top), (low, high))
        })
    }

    fn names(&self, sheet: &Sheet, left: i32, top: i32, cell: i32) -> Drawn {
        let every = |count: usize, room: i32| {
            let fit = (TEXT as usize).div_ceil(room.max(1) as usize);
            count.div_ceil(NAMES).max(fit).max(1)
        };
        let step = every(self.rows.len(), cell);
        for (r, name) in self.rows.iter().enumerate().step_by(step) {
            let place = (left - 12, top + r as i32 * cell + cell / 2);
            sheet
                .draw(&Text::new(name.as_str(), place, label(HPos::Right)))
                .map_err(text_of)?;
        }
        let widest = self.columns.iter().map(|n| width_of(n)).max().unwrap_or(0);
        let step = ((widest + 8) as usize).div_ceil(cell as usize).max(1);
        let below = top + self.rows.len() as i32 * cell + 8;
        for (c, name) in self.columns.iter().enumerate().step_by(step) {
            let style = TextStyle::from(("sans-serif", TEXT).into_font())
                .color(&INK)
                .pos(Pos::new(HPos::Center, VPos::Top));
            let place = (left + c as i32 * cell + cell / 2, below);
            sheet
                .draw(&Text::new(name.as_str(), place, style))
                .map_err(text_of)?;
        }
        Ok(())
    }

    fn scale(&self, sheet: &Sheet, (x, y): (i32, i32), (low, high): (f64, f64)) -> Drawn {
        let steps = 32;
        for step in 0..steps {
            let part = 1.0 - (f64::from(step) + 0.5) / f64::from(steps);
            let corners = [(x, y + step * 8), (x + 32, y + step * 8 + 8)];
            sheet
                .draw(&Rectangle::new(corners, self.colour(part).filled()))
                .map_err(text_of)?;
        }
        let write = |text: String, down: i32| {
            let place = (x + 44, y + down);
            sheet
                .draw(&Text::new(text, place, label(HPos::Left)))
                .map_err(text_of)
        };
        write(format!("{high:.3}"), 8)?;
        write(format!("{low:.3}"), steps * 8 - 8)?;
        let text = Text::new(
            self.label.as_str(),
            (x, y + steps * 8 + TEXT),
            label(HPos::Left),
        );
        sheet.draw(&text).map_err(text_of)
    }

    /// The colour at a place from 0 to 1 of the scale.
    fn colour(&self, place: f64) -> RGBColor {
        const BLUE: RGBColor = RGBColor(0, 114, 178);
        const RED: RGBColor = RGBColor(213, 94, 0);
        match self.is_signed {
            true if place < 0.5 => blend(BLUE, GRID, 2.0 * place),
            true => blend(GRID, RED, 2.0 * place - 1.0),
            false => blend(RGBColor(240, 244, 248), BLUE, place),
        }
    }
}

fn blend(a: RGBColor, b: RGBColor, part: f64) -> RGBColor {
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_cells_are_drawn_with_names_and_scale() {
        let map = HeatMap {
            title: "Pairs".into(),
            label: "effect".into(),
            rows: vec!["A1".into(), "B2".into()],
            columns: vec!["A1".into(), "B2".into()],
            values: vec![vec![f64::NAN, -1.0], vec![2.0, f64::NAN]],
            is_signed: true,
        };
        let svg = map.svg().unwrap();
        // The sheet, two cells and the steps of the scale.
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 32);
        assert!(svg.contains("\nA1\n") && svg.contains("\n2.000\n") && svg.contains("\n-2.000\n"));
        assert!(svg.contains("#D55E00"), "the highest value");
        let empty = HeatMap {
            values: vec![],
            ..map
        };
        assert!(empty.svg().unwrap().contains("\nno data\n"));
    }
}
