//! Tables as outputs of commands.

use std::io::{self, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cistron_tables::{Cell, Format, Kind, TableWriter};
use cistron_tracks::atomic::AtomicFile;
use serde_json::json;

use crate::failure::Usage;
use crate::output;

/// Where a table goes.
enum Sink {
    Stdout(Stdout),
    File(AtomicFile),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// A table that appears when it is whole; or standard output, as tab-separated text.
pub struct OutTable {
    writer: TableWriter<Sink>,
    path: PathBuf,
    /// What text tables say beside them.
    metadata: Option<Vec<(String, String)>>,
}

/// The format that the name of a table says.
///
/// # Errors
///
/// It says none: wrong usage.
pub fn format_of(path: &Path) -> anyhow::Result<Format> {
    if path.as_os_str() == "-" {
        return Ok(Format::Tsv);
    }
    Format::of(path).ok_or_else(|| {
        let problem = format!(
            "{}: a table's name ends in .tsv, .tsv.gz, .csv, .csv.gz or .parquet",
            path.display()
        );
        Usage(problem).into()
    })
}

/// Refuses a name that says no format, and to replace a file, unless forced.
pub fn claim(path: &Path, force: bool) -> anyhow::Result<()> {
    format_of(path)?;
    match path.as_os_str() == "-" {
        true => Ok(()),
        false => output::claim_file(path, force),
    }
}

impl OutTable {
    /// Opens it; `-` is standard output. `metadata` goes into a Parquet file, or into a JSON file
    /// beside a text file.
    pub fn create(
        path: &Path,
        columns: &[(&str, Kind)],
        metadata: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let format = format_of(path)?;
        let named = || path.display().to_string();
        let (sink, beside) = match path.as_os_str() == "-" {
            true => (Sink::Stdout(io::stdout()), false),
            false => (
                Sink::File(AtomicFile::create(path).with_context(named)?),
                format != Format::Parquet,
            ),
        };
        let gzip = path.extension().is_some_and(|end| end == "gz");
        let writer = TableWriter::new(sink, format, gzip, columns, metadata).with_context(named)?;
        Ok(Self {
            writer,
            path: path.to_owned(),
            metadata: (beside && !metadata.is_empty()).then(|| metadata.to_vec()),
        })
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        let written = self.writer.row(cells);
        written.with_context(|| self.path.display().to_string())
    }

    /// Gives the file its name, and writes what is known of it beside a text file.
    pub fn finish(self) -> anyhow::Result<()> {
        let named = || self.path.display().to_string();
        match self.writer.finish().with_context(named)? {
            Sink::Stdout(mut out) => out.flush()?,
            Sink::File(file) => file.commit().with_context(named)?,
        }
        let Some(metadata) = self.metadata else {
            return Ok(());
        };
        let mut name = self.path.clone().into_os_string();
        name.push(".json");
        let path = PathBuf::from(name);
        let text: serde_json::Map<String, serde_json::Value> = metadata
            .into_iter()
            .map(|(key, value)| (key, json!(value)))
            .collect();
        let write = || -> io::Result<()> {
            let mut file = AtomicFile::create(&path)?;
            writeln!(file, "{:#}", serde_json::Value::Object(text))?;
            file.commit()
        };
        write().with_context(|| path.display().to_string())
    }
}
