//! Reading tables whole, a column at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::{
    Column, CsvParseOptions, CsvReadOptions, DataFrame, DataType, ParquetReader, SerReader,
};

use crate::{Format, TableError};

/// Words that stand for a missing value, besides an empty cell.
const MISSING: [&str; 8] = ["NA", "N/A", "NaN", "nan", "null", "None", "-", "."];

/// A table in memory.
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
    frame: DataFrame,
}

impl Table {
    /// Reads the table at `path`, whose name says its format. Text tables have a line of names
    /// first, and may be compressed with gzip.
    ///
    /// # Errors
    ///
    /// The format is not known, or the file is missing or damaged.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let format = Format::of(path).ok_or_else(|| TableError::Format {
            path: path.to_owned(),
        })?;
        let failed = |reason: String| TableError::Read {
            path: path.to_owned(),
            reason: reason.lines().next().unwrap_or_default().to_owned(),
        };
        let separator = match format {
            Format::Csv => b',',
            Format::Tsv => b'\t',
            Format::Parquet => {
                let file = File::open(path).map_err(|error| failed(error.to_string()))?;
                let frame = ParquetReader::new(file)
                    .finish()
                    .map_err(|error| failed(error.to_string()))?;
                return Ok(Self {
                    path: path.to_owned(),
                    frame,
                });
            }
        };
        // As text: a column of mutants or of 0 and 1 is read as it stands, and a number that is
        // none gets a message of ours, with its row.
        let frame = CsvReadOptions::default()
            .with_has_header(true)
            .with_infer_schema_length(Some(0))
            .with_parse_options(
                CsvParseOptions::default()
                    .with_separator(separator)
                    .with_missing_is_null(true),
            )
            .try_into_reader_with_file_path(Some(path.to_owned()))
            .and_then(SerReader::finish)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            frame,
        })
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// Names of the columns, in the order of the file.
    pub fn columns(&self) -> Vec<String> {
        let names = self.frame.get_column_names();
        names.into_iter().map(ToString::to_string).collect()
    }

    /// Whether there is a column of this name.
    pub fn has(&self, column: &str) -> bool {
        self.frame.column(column).is_ok()
    }

    /// A column as text; `None` where a cell is empty.
    ///
    /// # Errors
    ///
    /// There is no such column.
    pub fn text(&self, column: &str) -> Result<Vec<Option<String>>, TableError> {
        let strings = self.cast(column, &DataType::String)?;
        let strings = strings.str().map_err(|error| self.unreadable(&error))?;
        Ok(strings
            .iter()
            .map(|value| value.map(str::trim).filter(|value| !value.is_empty()))
            .map(|value| value.map(str::to_owned))
            .collect())
    }

    /// A column as numbers; `None` where a cell is empty or says that there is no value.
    ///
    /// # Errors
    ///
    /// There is no such column, or a cell holds something else: the first such row is named.
    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>, TableError> {
        let of_text = self.find(column)?.dtype() == &DataType::String;
        if !of_text {
            let numbers = self.cast(column, &DataType::Float64)?;
            let numbers = numbers.f64().map_err(|error| self.unreadable(&error))?;
            return Ok(numbers.iter().collect());
        }
        let parse = |(row, value): (usize, Option<String>)| match value {
            None => Ok(None),
            Some(value) if MISSING.contains(&value.as_str()) => Ok(None),
            Some(value) => match (value.parse::<f64>(), value.to_ascii_lowercase().as_str()) {
                (Ok(number), _) => Ok(Some(number)),
                (Err(_), "true") => Ok(Some(1.0)),
                (Err(_), "false") => Ok(Some(0.0)),
                (Err(_), _) => Err(TableError::Number {
                    path: self.path.clone(),
                    column: column.to_owned(),
                    row: row + 1,
                    value,
                }),
            },
        };
        self.text(column)?
            .into_iter()
            .enumerate()
            .map(parse)
            .collect()
    }

    fn find(&self, column: &str) -> Result<&Column, TableError> {
        self.frame.column(column).map_err(|_| TableError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            columns: self.columns(),
        })
    }

    fn cast(&self, column: &str, kind: &DataType) -> Result<Column, TableError> {
        let found = self.find(column)?;
        found.cast(kind).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> TableError {
        TableError::Read {
            path: self.path.clone(),
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{NamedFrom, ParquetWriter, Series};

    fn write(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn text_tables_are_read_as_they_stand() {
        let (_folder, path) = write(
            "a.tsv",
            "mutant\ty\tkeep\nA1G\t1.50\tTrue\nA1C,G2T\t\tFalse\nx\tNaN\t\n",
        );
        let table = Table::read(&path).unwrap();
        assert_eq!((table.rows(), table.columns().len()), (3, 3));
        let mutants = table.text("mutant").unwrap();
        assert_eq!(mutants[1].as_deref(), Some("A1C,G2T"));
        assert_eq!(table.numbers("y").unwrap(), [Some(1.5), None, None]);
        assert_eq!(table.numbers("keep").unwrap(), [Some(1.0), Some(0.0), None]);
        assert!(table.has("y") && !table.has("z"));
    }

    #[test]
    fn problems_name_file_row_and_column() {
        let (_folder, path) = write("a.csv", "s,y\nAC,1\nAG,high\n");
        let table = Table::read(&path).unwrap();
        let error = table.numbers("y").unwrap_err().to_string();
        assert!(
            error.contains("a.csv, row 2, column 'y': 'high' is not a number"),
            "{error}"
        );
        let error = table.text("z").unwrap_err().to_string();
        assert!(error.contains("no column 'z'; there are: s, y"), "{error}");
        let error = Table::read(Path::new("x.xlsx")).unwrap_err().to_string();
        assert!(error.contains("expected .csv"), "{error}");
        let error = Table::read(Path::new("none.csv")).unwrap_err().to_string();
        assert!(error.contains("none.csv: cannot be read"), "{error}");
    }

    #[test]
    fn gzip_and_parquet_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv.gz");
        // `s,y` and one row, compressed by gzip.
        let bytes = [
            31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 43, 214, 169, 228, 114, 116, 214, 49, 210, 51, 229, 2,
            0, 100, 187, 114, 209, 11, 0, 0, 0,
        ];
        std::fs::write(&path, bytes).unwrap();
        let text = Table::read(&path).unwrap();
        let mut frame = DataFrame::new(
            1,
            vec![
                Series::new("s".into(), ["AC"]).into(),
                Series::new("y".into(), [2.5f64]).into(),
            ],
        )
        .unwrap();
        let path = folder.path().join("a.parquet");
        ParquetWriter::new(File::create(&path).unwrap())
            .finish(&mut frame)
            .unwrap();
        let parquet = Table::read(&path).unwrap();
        for table in [text, parquet] {
            assert_eq!(table.text("s").unwrap(), [Some("AC".to_owned())]);
            assert_eq!(table.numbers("y").unwrap(), [Some(2.5)]);
        }
    }
}
