//! What can go wrong with a plot.

use std::path::{Path, PathBuf};

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The drawing does not fit together.
    #[error("{}: cannot be drawn: {problem}", path.display())]
    Drawing {
        /// The file.
        path: PathBuf,
        /// What the plotting library says.
        problem: String,
    },
}

impl ReportError {
    pub(crate) fn drawing(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Drawing {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}
