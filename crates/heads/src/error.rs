//! What can go wrong with a head.

use std::path::PathBuf;

use cistron_model::ModelError;
use cistron_report::ReportError;
use cistron_tables::TableError;

/// An error of a head.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The network cannot be built, read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A plot cannot be drawn.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A table holds what no head can learn from.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected, and what mends it.
        problem: String,
    },
    /// The folder of a head is missing or damaged.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Options(String),
    /// The run was stopped.
    #[error("stopped")]
    Stopped,
}
