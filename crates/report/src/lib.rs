//! Plots of training and evaluation, as SVG.
//!
//! Text stays text, in the reader's sans-serif font, so no font is needed to draw. The
//! colours are those of Okabe and Ito, which readers of every colour vision tell apart
//! and which differ in lightness on paper.

mod bar;
mod error;
mod line;
mod style;

pub use bar::{Bar, BarPlot, bar_plot};
pub use error::ReportError;
pub use line::{LinePlot, Mark, Series, line_plot};
