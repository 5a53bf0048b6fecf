//! What can be wrong with a table.

use std::path::PathBuf;

/// An error of a table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The name of the file does not say its format.
    #[error(
        "{}: the name does not tell the format; expected .csv, .tsv, .txt (also with .gz) or .parquet",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },

    /// The file cannot be read as the table that its name says.
    #[error("{}: cannot be read as a table: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        reason: String,
    },

    /// There is no such column.
    #[error("{}: no column '{column}'; there are: {}", path.display(), columns.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// The wanted column.
        column: String,
        /// The columns that there are.
        columns: Vec<String>,
    },

    /// A value that is not a number.
    #[error(
        "{}, row {row}, column '{column}': '{value}' is not a number; leave the cell empty where \
         there is no measurement",
        path.display()
    )]
    Number {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Row of the table, 1 for the first below the header.
        row: usize,
        /// What stands there.
        value: String,
    },
}
