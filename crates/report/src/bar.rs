//! Bar plots.

use std::path::Path;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::style::{FONT, SIZE, TEXT, TITLE, colour, label, range, write};

/// One bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Name under it.
    pub name: String,
    /// Its height.
    pub value: f64,
}

/// Bars beside one another, from zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarPlot {
    /// Title above the plot.
    pub title: String,
    /// Name and unit of the vertical axis.
    pub y: String,
    /// The bars, left to right.
    pub bars: Vec<Bar>,
}

/// Draws the plot as the SVG file `path`. Bars that are not finite stay empty.
///
/// # Errors
///
/// The file cannot be written.
pub fn bar_plot(plot: &BarPlot, path: &Path) -> Result<(), ReportError> {
    let mut svg = String::new();
    draw(plot, &mut svg).map_err(|error| ReportError::drawing(path, error))?;
    write(path, &svg)
}

fn draw(plot: &BarPlot, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let count = plot.bars.len();
    let ys = range(plot.bars.iter().map(|bar| bar.value).chain([0.0]));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&plot.title, (FONT, TITLE))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..count.max(1) as f64 - 0.5, ys)?;
    let name = |x: &f64| -> String {
        let nearest = x.round();
        let bar = plot
            .bars
            .get(nearest as usize)
            .filter(|_| (x - nearest).abs() < 0.01);
        bar.filter(|_| nearest >= 0.0)
            .map_or(String::new(), |bar| bar.name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .y_desc(&plot.y)
        .label_style((FONT, TEXT))
        .x_labels(2 * count + 1)
        .x_label_formatter(&name)
        .y_label_formatter(&label)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let bars = plot
        .bars
        .iter()
        .enumerate()
        .filter(|(_, bar)| bar.value.is_finite());
    chart.draw_series(bars.map(|(i, bar)| {
        let x = i as f64;
        Rectangle::new([(x - 0.35, 0.0), (x + 0.35, bar.value)], colour(i).filled())
    }))?;
    root.present()?;
    drop(chart);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.svg");
        for count in [0, 1, 3, 6] {
            let bars = (0..count)
                .map(|i| Bar {
                    name: format!("model {i}"),
                    value: 1.0 + f64::from(i),
                })
                .collect();
            let plot = BarPlot {
                title: "Bits a base".into(),
                y: "bits".into(),
                bars,
            };
            bar_plot(&plot, &path).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            for i in 0..count {
                assert!(svg.contains(&format!("model {i}")), "{count} {i}: {svg}");
            }
            // The background is a rectangle too.
            assert_eq!(svg.matches("<rect").count(), 1 + count as usize, "{svg}");
        }
    }
}
