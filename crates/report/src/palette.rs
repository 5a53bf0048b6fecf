//! Colours that stay apart for colour-blind readers (after Okabe and Ito), and in print.

use plotters::style::RGBColor;

/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(40, 40, 40);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(225, 225, 225);
/// What others are compared with.
pub(crate) const NEUTRAL: RGBColor = RGBColor(150, 150, 150);

/// Blue, orange, green, purple, vermilion, sky blue, black; yellow is left out, as it fades
/// on white paper.
const SERIES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Colour of the `index`-th series; the colours come again, dashed, from the eighth on.
pub(crate) fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// Whether the `index`-th series is drawn with dashes.
pub(crate) fn is_dashed(index: usize) -> bool {
    index >= SERIES.len()
}
