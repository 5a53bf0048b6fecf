//! Line plots.

use std::path::Path;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::style::{FONT, SIZE, TEXT, TITLE, colour, label, range, write};

/// How the points of a series are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Joined by a line.
    #[default]
    Line,
    /// Joined by a line, with a dot at each.
    Dots,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// x and y, in the order of x. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// How it is shown.
    #[serde(default)]
    pub mark: Mark,
}

/// Lines over one pair of axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinePlot {
    /// Title above the plot.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x: String,
    /// Name and unit of the vertical axis.
    pub y: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// Draws the plot as the SVG file `path`.
///
/// # Errors
///
/// The file cannot be written.
pub fn line_plot(plot: &LinePlot, path: &Path) -> Result<(), ReportError> {
    let mut svg = String::new();
    draw(plot, &mut svg).map_err(|error| ReportError::drawing(path, error))?;
    write(path, &svg)
}

fn draw(plot: &LinePlot, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let finite = |series: &Series| -> Vec<(f64, f64)> {
        let points = series.points.iter().copied();
        points
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect()
    };
    let lines: Vec<Vec<(f64, f64)>> = plot.series.iter().map(finite).collect();
    let xs = range(lines.iter().flatten().map(|point| point.0));
    let ys = range(lines.iter().flatten().map(|point| point.1));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&plot.title, (FONT, TITLE))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(xs, ys)?;
    chart
        .configure_mesh()
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .label_style((FONT, TEXT))
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (i, (series, points)) in plot.series.iter().zip(lines).enumerate() {
        let style = colour(i).stroke_width(2);
        if series.mark == Mark::Dots {
            chart.draw_series(
                points
                    .iter()
                    .map(|&point| Circle::new(point, 4, colour(i).filled())),
            )?;
        }
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    if plot.series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font((FONT, TEXT))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    root.present()?;
    drop(chart);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        let series = |name: &str, mark| Series {
            name: name.into(),
            points: points.to_vec(),
            mark,
        };
        let plot = LinePlot {
            title: "Loss".into(),
            x: "step".into(),
            y: "bits a base".into(),
            series: vec![
                series("training", Mark::Line),
                series("validation", Mark::Dots),
            ],
        };
        line_plot(&plot, &path).unwrap();
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn lines_dots_axes_and_legend_are_drawn() {
        let svg = plot(&[(0.0, 2.0), (1.0, 1.9), (2.0, f64::NAN), (3.0, 1.8)]);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for part in ["Loss", "step", "bits a base", "training", "validation"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn few_points_are_no_problem() {
        assert!(plot(&[]).contains("</svg>"));
        assert!(plot(&[(5.0, 5.0)]).contains("<circle"));
    }
}
