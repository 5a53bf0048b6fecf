//! Bars: a score beside its baselines.

use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::IntoFont;
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, RGBColor, TextStyle};
use serde::{Deserialize, Serialize};

use crate::canvas::{Drawn, Sheet, TEXT, draw, label, no_data, pen, text_of, width_of};
use crate::coordinate::Coordinate;
use crate::palette::{GRID, INK, NEUTRAL, colour};
use crate::{Axis, ReportError, Scale};

const BAR: i32 = 64;
const MARGIN: i32 = 24;

/// One bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// What was measured.
    pub name: String,
    /// The measure; a bar that is not finite is left out.
    pub value: f64,
    /// Ends of the confidence interval, drawn as a whisker.
    #[serde(default)]
    pub interval: Option<(f64, f64)>,
    /// Whether the bar is the plot's subject (blue) or a baseline (grey).
    #[serde(default)]
    pub is_subject: bool,
}

impl Bar {
    /// A baseline.
    pub fn baseline(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            interval: None,
            is_subject: false,
        }
    }

    /// What the plot is about.
    pub fn subject(name: impl Into<String>, value: f64) -> Self {
        Self {
            is_subject: true,
            ..Self::baseline(name, value)
        }
    }

    /// The same bar with a confidence interval.
    pub fn with_interval(self, low: f64, high: f64) -> Self {
        Self {
            interval: Some((low, high)),
            ..self
        }
    }

    /// The finite ends of the interval.
    fn whisker(&self) -> Option<(f64, f64)> {
        self.interval
            .filter(|(low, high)| low.is_finite() && high.is_finite())
    }
}

/// Horizontal bars from top to bottom, each with its value in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BarPlot {
    /// Heading.
    pub title: String,
    /// What the bars show. Without a range of its own a linear axis holds zero.
    pub value: Axis,
    /// The bars.
    pub bars: Vec<Bar>,
    /// Decimals of the figures.
    pub decimals: usize,
}

impl BarPlot {
    /// Draws the plot.
    ///
    /// # Errors
    /// A value is not above zero on a logarithmic axis, or the axis has an impossible range.
    /// A plot without any finite bar is no error: it says so.
    pub fn svg(&self) -> Result<String, ReportError> {
        let bars: Vec<&Bar> = self.bars.iter().filter(|b| b.value.is_finite()).collect();
        let values = bars.iter().flat_map(|bar| {
            let ends = bar.whisker().map_or([bar.value; 2], |(l, h)| [l, h]);
            [bar.value, ends[0], ends[1]].map(|value| (bar.name.clone(), value))
        });
        let axis = self.axis(&bars);
        let values: Vec<_> = values.collect();
        let x = axis.fit(&self.title, values.into_iter(), 9)?;
        let rows = Axis::linear("").with_range(0.0, bars.len().max(1) as f64);
        let y = rows.fit(&self.title, [(String::new(), 0.0)].into_iter(), 1)?;
        let height = 2 * MARGIN + 4 * TEXT + 40 + BAR * bars.len().max(1) as i32;
        draw(&self.title, height, &[], |sheet| {
            self.draw(sheet, &bars, x, y)
        })
    }

    /// A bar is read by its length, so it begins at zero unless told otherwise.
    fn axis(&self, bars: &[&Bar]) -> Axis {
        let mut axis = self.value.clone();
        if axis.range.is_none() && axis.scale == Scale::Linear {
            let ends = bars.iter().flat_map(|bar| {
                let (low, high) = bar.whisker().unwrap_or((bar.value, bar.value));
                [bar.value, low, high]
            });
            let (low, high) = ends.fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
            let room = (high - low) * 0.04;
            if room > 0.0 {
                let low = if low < 0.0 { low - room } else { 0.0 };
                let high = if high > 0.0 { high + room } else { 0.0 };
                axis.range = Some((low, high));
            }
        }
        axis
    }

    fn draw(&self, sheet: &Sheet, bars: &[&Bar], x: Coordinate, y: Coordinate) -> Drawn {
        let figures = |bar: &Bar| format!("{:.*}", self.decimals, bar.value);
        let widest = |texts: &mut dyn Iterator<Item = i32>| texts.max().unwrap_or(0);
        let left = widest(&mut bars.iter().map(|bar| width_of(&bar.name)));
        let right = widest(&mut bars.iter().map(|bar| width_of(&figures(bar))));
        let origin = x.clamp(0.0);
        let mut chart = ChartBuilder::on(sheet)
            .margin(MARGIN)
            .margin_right(2 * MARGIN + right)
            .x_label_area_size(3 * TEXT)
            .y_label_area_size(left.min(crate::canvas::WIDTH / 2) + MARGIN)
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
        if bars.is_empty() {
            no_data(sheet)?;
        }
        let base = sheet.get_base_pixel();
        for (i, bar) in bars.iter().enumerate() {
            let middle = bars.len() as f64 - i as f64 - 0.5;
            let corners = [(origin, middle + 0.32), (x.clamp(bar.value), middle - 0.32)];
            let block = Rectangle::new(corners, shade(bar).filled());
            chart.draw_series([block]).map_err(text_of)?;
            let mut end = x.clamp(bar.value).max(origin);
            if let Some((low, high)) = bar.whisker() {
                end = end.max(x.clamp(high));
                let ends = [(low, middle), (high, middle)];
                let cap = |v| [(v, middle - 0.12), (v, middle + 0.12)];
                let lines = [ends, cap(low), cap(high)];
                let lines = lines.map(|line| PathElement::new(line, pen(INK)));
                chart.draw_series(lines).map_err(text_of)?;
            }
            let at = |value: f64, shift: i32| {
                let (px, py) = chart.backend_coord(&(value, middle));
                (px - base.0 + shift, py - base.1)
            };
            let value = Text::new(figures(bar), at(end, 10), label(HPos::Left));
            let start = x.clamp(f64::NEG_INFINITY);
            let name = Text::new(bar.name.clone(), at(start, -14), label(HPos::Right));
            sheet.draw(&value).map_err(text_of)?;
            sheet.draw(&name).map_err(text_of)?;
        }
        Ok(())
    }
}

fn shade(bar: &Bar) -> RGBColor {
    if bar.is_subject { colour(0) } else { NEUTRAL }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(bars: Vec<Bar>) -> BarPlot {
        BarPlot {
            title: "Held-out genome".into(),
            value: Axis::linear("bits per base"),
            bars,
            decimals: 3,
        }
    }

    /// Start and width of the bars filled with `colour`.
    fn blocks(svg: &str, colour: &str) -> Vec<(i32, i32)> {
        let number = |line: &str, name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        svg.lines()
            .filter(|line| line.contains("<rect") && line.contains(&format!("fill=\"{colour}\"")))
            .map(|line| (number(line, "x"), number(line, "width")))
            .collect()
    }

    #[test]
    fn bars_have_names_figures_and_lengths_from_zero() {
        let svg = plot(vec![
            Bar::subject("cistron & co", 1.0),
            Bar::baseline("order-2 Markov", 2.0),
            Bar::baseline("missing", f64::NAN),
        ])
        .svg()
        .unwrap();
        for text in [
            "cistron &amp; co",
            "order-2 Markov",
            "1.000",
            "2.000",
            "bits per base",
        ] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
        assert!(!svg.contains("missing"));
        let (subject, baseline) = (blocks(&svg, "#0072B2"), blocks(&svg, "#969696"));
        assert_eq!((subject.len(), baseline.len()), (1, 1));
        assert_eq!(subject[0].0, baseline[0].0);
        assert!((2 * subject[0].1 - baseline[0].1).abs() <= 2);
    }

    #[test]
    fn negative_values_run_to_the_left() {
        let svg = plot(vec![Bar::subject("a", -0.5), Bar::baseline("b", 0.25)]);
        let svg = svg.svg().unwrap();
        let (a, b) = (blocks(&svg, "#0072B2")[0], blocks(&svg, "#969696")[0]);
        assert_eq!(a.0 + a.1, b.0);
    }

    #[test]
    fn whiskers_and_ranges() {
        let mut p = plot(vec![Bar::subject("a", 1.9).with_interval(1.8, 1.95)]);
        p.value = p.value.with_range(1.7, 2.0);
        let svg = p.svg().unwrap();
        assert!(svg.matches("stroke-width=\"4\"").count() >= 3);
        assert!(plot(vec![]).svg().unwrap().contains("\nno data\n"));
        assert!(plot(vec![Bar::subject("zero", 0.0)]).svg().is_ok());
    }

    #[test]
    fn log_bars_need_values_above_zero() {
        let mut p = plot(vec![Bar::subject("a", 10.0), Bar::baseline("b", 1e4)]);
        p.value = Axis::log("variants per second");
        assert!(p.svg().unwrap().contains("\n1000\n"));
        p.bars[0].value = 0.0;
        assert!(matches!(p.svg(), Err(ReportError::NotPositive { .. })));
    }
}
