//! Tables in and out: CSV, TSV and Parquet.
//!
//! The one crate that depends on polars.

mod error;
mod read;
pub mod write;

use std::path::Path;

pub use error::TableError;
pub use read::Table;
pub use write::{Cell, Kind, TableWriter, WriteError};

/// How a table is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated text with a header line, plain or gzip.
    Csv,
    /// Tab-separated text with a header line, plain or gzip.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a file's name says: `.csv`, `.tsv`, `.txt` or `.parquet`, the text ones
    /// also with `.gz`. `None` for any other name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let stem = name.strip_suffix(".gz").unwrap_or(&name);
        match stem.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "tsv" | "txt" => Some(Self::Tsv),
            "parquet" if stem == name => Some(Self::Parquet),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!(of("a/b.csv"), Some(Format::Csv));
        assert_eq!(of("b.TSV.gz"), Some(Format::Tsv));
        assert_eq!(of("b.parquet"), Some(Format::Parquet));
        assert_eq!(of("b.parquet.gz"), None);
        assert_eq!(of("b"), None);
    }
}
