//! The sheet that all plots share: title, legend, and the room below for the data.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::series::DashedLineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use crate::coordinate::Coordinate;
use crate::palette::{GRID, INK};
use crate::{Axis, ReportError};

/// Units of the drawing for each unit of the picture's nominal size: coordinates are whole
/// numbers, and lines should not show their steps.
const FINE: u32 = 2;
/// Width of every plot, in drawing units.
pub(crate) const WIDTH: i32 = 1600;
/// Width of a plot that a telephone shows too, in drawing units.
pub(crate) const NARROW: i32 = 900;
/// Height of a plot with two axes, in drawing units.
pub(crate) const HEIGHT: i32 = 960;
/// Size of labels as the drawing library counts it, 1.24 times the size of the font.
pub(crate) const TEXT: i32 = 32;
const TITLE: i32 = 38;
const MARGIN: i32 = 24;
const KEY: i32 = 56;

pub(crate) type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<Coordinate, Coordinate>>;
/// What drawing gives; errors are turned to text, as the library's own are many.
pub(crate) type Drawn<T = ()> = Result<T, String>;

/// A line of the legend.
pub(crate) struct Key {
    pub name: String,
    pub colour: RGBColor,
    pub look: Look,
}

/// How a legend shows a series.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Look {
    Line,
    Dashes,
    Block,
}

/// Draws the title, the legend when it has an entry, and `data` in the room below them.
pub(crate) fn draw(
    title: &str,
    height: i32,
    keys: &[Key],
    data: impl FnOnce(&Sheet) -> Drawn,
) -> Result<String, ReportError> {
    draw_sized(title, (WIDTH, height), keys, data)
}

/// As [`draw`], with a width in drawing units.
pub(crate) fn draw_sized(
    title: &str,
    (width, height): (i32, i32),
    keys: &[Key],
    data: impl FnOnce(&Sheet) -> Drawn,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    let backend = SVGBackend::with_string(&mut svg, (width as u32, height as u32));
    let drawn = (|| {
        let sheet = backend.into_drawing_area();
        sheet.fill(&WHITE).map_err(text_of)?;
        let style = TextStyle::from(("sans-serif", TITLE).into_font()).color(&INK);
        let place = (MARGIN, MARGIN);
        sheet
            .draw(&Text::new(title, place, style))
            .map_err(text_of)?;
        let top = MARGIN + TITLE + 8;
        let bottom = legend(&sheet, keys, top)?;
        data(&sheet.split_vertically(bottom).1)?;
        sheet.present().map_err(text_of)
    })();
    drawn.map_err(|reason| ReportError::Draw {
        title: title.to_owned(),
        reason,
    })?;
    Ok(at_nominal_size(&svg, title, (width, height)))
}

/// Room that `text` takes in drawing units; generous, as the viewer's font is not known.
pub(crate) fn width_of(text: &str) -> i32 {
    (text.chars().count() as f64 * f64::from(TEXT) / 1.24 * 0.62).ceil() as i32
}

/// Style of a label at a place which it has as its `horizontal` end and vertical middle.
pub(crate) fn label(horizontal: HPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", TEXT).into_font())
        .color(&INK)
        .pos(Pos::new(horizontal, VPos::Center))
}

/// A thick line of `colour`.
pub(crate) fn pen(colour: RGBColor) -> ShapeStyle {
    colour.stroke_width(4)
}

/// Any error of the drawing library as text.
pub(crate) fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Both axes with grid, ticks and labels.
pub(crate) fn chart<'b>(
    sheet: &Sheet<'b>,
    axes: (&Axis, &Axis),
    coordinates: (Coordinate, Coordinate),
) -> Drawn<Chart<'static, 'b>> {
    let left = width_of(&"0".repeat(coordinates.1.label_length())) + 2 * TEXT;
    let mut chart = ChartBuilder::on(sheet)
        .margin(MARGIN)
        .margin_right(2 * MARGIN)
        .x_label_area_size(3 * TEXT)
        .y_label_area_size(left)
        .build_cartesian_2d(coordinates.0, coordinates.1)
        .map_err(text_of)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(2))
        .light_line_style(plotters::style::TRANSPARENT)
        .axis_style(INK.stroke_width(2))
        .label_style(TextStyle::from(("sans-serif", TEXT).into_font()).color(&INK))
        .x_desc(axes.0.label.as_str())
        .y_desc(axes.1.label.as_str())
        .draw()
        .map_err(text_of)?;
    Ok(chart)
}

/// Says in the middle of `sheet` that there is nothing to see.
pub(crate) fn no_data(sheet: &Sheet) -> Drawn {
    let (width, height) = sheet.dim_in_pixel();
    let place = (width as i32 / 2, height as i32 / 2);
    let text = Text::new("no data", place, label(HPos::Center));
    sheet.draw(&text).map_err(text_of)
}

/// A dashed line through `points`, given in the units of the area.
pub(crate) fn dashes(
    points: impl IntoIterator<Item = (f64, f64)>,
    colour: RGBColor,
) -> DashedLineSeries<std::vec::IntoIter<(f64, f64)>, i32> {
    let points: Vec<_> = points.into_iter().collect();
    DashedLineSeries::new(points, 14, 10, pen(colour))
}

/// Draws the legend from the height `top` on, in as many lines as it takes; the result is
/// the height below it.
fn legend(sheet: &Sheet, keys: &[Key], top: i32) -> Drawn<i32> {
    let line = TEXT + 10;
    let room = sheet.dim_in_pixel().0 as i32;
    let (mut x, mut y) = (MARGIN, top + line / 2);
    for key in keys {
        let width = KEY + 12 + width_of(&key.name) + 28;
        if x > MARGIN && x + width > room - MARGIN {
            (x, y) = (MARGIN, y + line);
        }
        let ends = [(x, y), (x + KEY, y)];
        match key.look {
            Look::Line => sheet.draw(&PathElement::new(ends, pen(key.colour))),
            Look::Dashes => (0..3).try_for_each(|i| {
                let from = x + i * 21;
                sheet.draw(&PathElement::new(
                    [(from, y), (from + 14, y)],
                    pen(key.colour),
                ))
            }),
            Look::Block => {
                let corners = [(x + KEY / 4, y - 11), (x + KEY * 3 / 4, y + 11)];
                sheet.draw(&Rectangle::new(corners, key.colour.filled()))
            }
        }
        .map_err(text_of)?;
        let name = Text::new(key.name.as_str(), (x + KEY + 12, y), label(HPos::Left));
        sheet.draw(&name).map_err(text_of)?;
        x += width;
    }
    Ok(if keys.is_empty() { top } else { y + line / 2 })
}

/// Gives the picture its nominal size, and its title to those who have it read to them.
fn at_nominal_size(svg: &str, title: &str, (width, height): (i32, i32)) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = (width as u32, height as u32);
    let escaped = title
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!(
        "<svg width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n<title>{escaped}</title>{body}",
        width / FINE,
        height / FINE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Key> {
        names
            .iter()
            .map(|&name| Key {
                name: name.to_owned(),
                colour: INK,
                look: Look::Block,
            })
            .collect()
    }

    /// Value of `attribute` of the text element that says `content`.
    fn attribute(svg: &str, content: &str, attribute: &str) -> f64 {
        let end = svg.find(&format!("\n{content}\n")).unwrap();
        let start = svg[..end].rfind("<text").unwrap();
        let (_, rest) = svg[start..end]
            .split_once(&format!(" {attribute}=\""))
            .unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn a_long_legend_takes_several_lines_above_the_data() {
        let names: Vec<String> = (0..9).map(|i| format!("a rather long name {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut top = 0;
        let svg = draw("t", HEIGHT, &keys(&names), |sheet| {
            top = sheet.get_base_pixel().1;
            Ok(())
        })
        .unwrap();
        for name in names {
            let (x, y) = (attribute(&svg, name, "x"), attribute(&svg, name, "y"));
            assert!(y + f64::from(TEXT) / 2.0 < f64::from(top), "{name}");
            assert!(x + f64::from(width_of(name)) <= f64::from(WIDTH), "{name}");
        }
        assert!(top > 3 * TEXT + TITLE);
    }

    #[test]
    fn titles_are_escaped() {
        let svg = draw("a < b & c", 100, &[], |_| Ok(())).unwrap();
        assert!(svg.contains("<title>a &lt; b &amp; c</title>"));
        assert!(svg.starts_with("<svg width=\"800\" height=\"50\" viewBox=\"0 0 1600 100\""));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn failures_name_the_plot() {
        let error = draw("t", 100, &[], |_| Err("no ink".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "plot `t`: cannot draw: no ink");
    }
}
