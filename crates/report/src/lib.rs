//! Plots of training and evaluation, as SVG text, and pages around them.
//!
//! A plot is a plain struct ([`LinePlot`], [`ScatterPlot`], [`Histogram`], [`BarPlot`],
//! [`DotPlot`], [`LogoPlot`]) that
//! serde can read and write; its `svg` method draws it and [`save`] stores the result. No
//! font is needed to build or to run: the viewer's sans-serif is used. Colours differ for
//! colour-blind readers and in greyscale, the legend stands above the data, never on it. A
//! [`Page`] holds plots and tables in one HTML file that loads nothing.
//!
//! ```
//! use cistron_report::{Axis, Level, LinePlot, Series};
//!
//! let plot = LinePlot {
//!     title: "Training".into(),
//!     x: Axis::linear("step"),
//!     y: Axis::linear("bits per base"),
//!     series: vec![Series::new("train", [(0.0, 2.0), (100.0, 1.93)])],
//!     levels: vec![Level::new("order-2 Markov", 1.95)],
//! };
//! assert!(plot.svg()?.starts_with("<svg"));
//! # Ok::<(), cistron_report::ReportError>(())
//! ```

mod axis;
mod bar;
mod canvas;
mod coordinate;
mod dots;
mod error;
mod file;
mod heatmap;
mod histogram;
mod line;
mod logo;
mod network;
mod page;
mod palette;
mod scatter;
mod series;

pub use axis::{Axis, Scale};
pub use bar::{Bar, BarPlot};
pub use dots::{Dot, DotGroup, DotPlot};
pub use error::ReportError;
pub use file::save;
pub use heatmap::HeatMap;
pub use histogram::{Histogram, Sample};
pub use line::{Level, LinePlot};
pub use logo::LogoPlot;
pub use network::{Edge, NetworkPlot};
pub use page::{Cell, Page, escape};
pub use scatter::ScatterPlot;
pub use series::Series;
