//! What all plots share: size, colours, axis ranges and the way into a file.

use std::ops::Range;
use std::path::Path;

use plotters::style::RGBColor;

use crate::ReportError;

/// Width and height of a plot, pixels.
pub const SIZE: (u32, u32) = (800, 500);
/// Size of the title and of the other text, pixels.
pub const TITLE: u32 = 20;
/// Size of the text of axes and legend, pixels.
pub const TEXT: u32 = 14;
/// The font family.
pub const FONT: &str = "sans-serif";

/// Colours of series and bars in turn (Okabe and Ito 2008), without the pale yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Colour number `i`.
pub fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// The range of the finite ones of `values` with a margin of a twentieth; around 0 when
/// there are none.
pub fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return -1.0..1.0;
    }
    let margin = if high > low {
        (high - low) / 20.0
    } else {
        low.abs().max(1.0) / 20.0
    };
    low - margin..high + margin
}

/// A tick label without superfluous zeros.
pub fn label(value: &f64) -> String {
    let size = value.abs();
    if size >= 1e5 || (size > 0.0 && size < 1e-3) {
        return format!("{value:e}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.to_owned()
    }
}

/// Writes the file under another name and renames it.
pub fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    let fail = |source| ReportError::Io {
        path: path.to_owned(),
        source,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.tmp"));
    let written =
        std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_values() {
        assert_eq!(range([0.0, 20.0, f64::NAN].into_iter()), -1.0..21.0);
        assert_eq!(range(std::iter::empty()), -1.0..1.0);
        assert_eq!(range([40.0].into_iter()), 38.0..42.0);
        assert_eq!(range([0.0].into_iter()), -0.05..0.05);
    }

    #[test]
    fn labels_are_short() {
        let labels: Vec<String> = [0.0, 1.95, 200.0, 250_000.0, -0.000_01, -0.0]
            .iter()
            .map(label)
            .collect();
        assert_eq!(labels, ["0", "1.95", "200", "2.5e5", "-1e-5", "0"]);
    }
}
