//! What can go wrong while a plot is made.

use std::io;
use std::path::PathBuf;

/// An error of a plot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A value that a logarithmic axis cannot show.
    #[error(
        "plot `{title}`: axis `{axis}` is logarithmic and `{series}` has the value {value}; \
         expected values above zero, or a linear axis"
    )]
    NotPositive {
        /// Title of the plot.
        title: String,
        /// Label of the axis.
        axis: String,
        /// The series or bar.
        series: String,
        /// The value.
        value: f64,
    },

    /// A range that an axis cannot show.
    #[error(
        "plot `{title}`: axis `{axis}` cannot run from {low} to {high}; expected two finite \
         numbers in ascending order, above zero on a logarithmic axis"
    )]
    Range {
        /// Title of the plot.
        title: String,
        /// Label of the axis.
        axis: String,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },

    /// The drawing library refused.
    #[error("plot `{title}`: cannot draw: {reason}")]
    Draw {
        /// Title of the plot.
        title: String,
        /// The library's reason.
        reason: String,
    },

    /// The file system refused.
    #[error("{}: cannot write the plot: {source}", path.display())]
    Io {
        /// The output file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
