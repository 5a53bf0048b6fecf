//! Tables written row by row, in constant memory.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column as Series, DataFrame, DataType, KeyValueMetadata, ParquetCompression, ParquetWriter,
    PlSmallStr, PolarsError, Schema,
};

use crate::Format;

/// Rows of a Parquet row group.
const GROUP: usize = 100_000;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Whole numbers of 64 bits.
    Integer,
    /// Floating-point numbers of 32 bits.
    Float,
    /// Floating-point numbers of 64 bits.
    Double,
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Text; a tab or line break in it becomes a space in text tables.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// A number, rounded to the column's precision.
    Number(f64),
    /// Nothing: `NA` in text tables, null in Parquet.
    Missing,
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Missing, Self::Text)
    }
}

impl From<Option<f64>> for Cell<'_> {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Missing, Self::Number)
    }
}

/// A table that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk or pipe refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Parquet cannot be made.
    #[error("the Parquet table cannot be written: {0}")]
    Parquet(String),
}

impl From<PolarsError> for WriteError {
    fn from(error: PolarsError) -> Self {
        match error {
            PolarsError::IO { error, .. } => {
                Self::Io(io::Error::new(error.kind(), error.to_string()))
            }
            other => Self::Parquet(other.to_string()),
        }
    }
}

/// Writes a table to `W`: its names first, then rows. Nothing is complete before
/// [`TableWriter::finish`].
pub struct TableWriter<W: Write + Send> {
    columns: Vec<(String, Kind)>,
    body: Body<W>,
}

enum Body<W: Write + Send> {
    Text(Box<dyn Finish<W> + Send>, u8, Vec<u8>),
    Parquet(Box<Parquet<W>>),
}

struct Parquet<W: Write + Send> {
    writer: BatchedWriter<Shared<W>>,
    sink: Shared<W>,
    groups: Vec<Buffer>,
    rows: usize,
}

/// Values of one column that await their row group.
enum Buffer {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Float(Vec<Option<f32>>),
    Double(Vec<Option<f64>>),
}

impl<W: Write + Send + 'static> TableWriter<W> {
    /// Begins a table. Text is compressed by gzip where `gzip` is set; Parquet, which is
    /// compressed anyway, carries `metadata` as key-value pairs, and text carries none.
    ///
    /// # Errors
    ///
    /// The sink refuses.
    pub fn new(
        sink: W,
        format: Format,
        gzip: bool,
        columns: &[(&str, Kind)],
        metadata: &[(String, String)],
    ) -> Result<Self, WriteError> {
        let body = match format {
            Format::Parquet => Body::Parquet(Box::new(Parquet::new(sink, columns, metadata)?)),
            Format::Csv | Format::Tsv => {
                let delimiter = if format == Format::Csv { b',' } else { b'\t' };
                let out: Box<dyn Finish<W> + Send> = match gzip {
                    true => Box::new(GzEncoder::new(sink, Compression::default())),
                    false => Box::new(BufWriter::new(sink)),
                };
                Body::Text(out, delimiter, Vec::new())
            }
        };
        let mut table = Self {
            columns: columns
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), *kind))
                .collect(),
            body,
        };
        if let Body::Text(out, delimiter, line) = &mut table.body {
            for (i, (name, _)) in table.columns.iter().enumerate() {
                if i > 0 {
                    line.push(*delimiter);
                }
                put_text(line, name, *delimiter);
            }
            line.push(b'\n');
            out.write_all(line)?;
        }
        Ok(table)
    }

    /// Adds a row, a cell a column.
    ///
    /// # Errors
    ///
    /// The sink refuses.
    ///
    /// # Panics
    ///
    /// When the cells are not those of the columns, in number or kind.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), WriteError> {
        assert_eq!(cells.len(), self.columns.len(), "a cell a column");
        match &mut self.body {
            Body::Text(out, delimiter, line) => {
                line.clear();
                for (i, (cell, (_, kind))) in cells.iter().zip(&self.columns).enumerate() {
                    if i > 0 {
                        line.push(*delimiter);
                    }
                    put(line, cell, *kind, *delimiter);
                }
                line.push(b'\n');
                out.write_all(line)?;
            }
            Body::Parquet(parquet) => {
                for (cell, buffer) in cells.iter().zip(&mut parquet.groups) {
                    buffer.push(cell);
                }
                parquet.rows += 1;
                if parquet.rows == GROUP {
                    parquet.flush(&self.columns)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is left and gives the sink back, flushed.
    ///
    /// # Errors
    ///
    /// The sink refuses.
    pub fn finish(self) -> Result<W, WriteError> {
        match self.body {
            Body::Text(out, ..) => Ok(out.finish()?),
            Body::Parquet(mut parquet) => {
                if parquet.rows > 0 {
                    parquet.flush(&self.columns)?;
                }
                let sink = &parquet.sink;
                let finished = parquet.writer.finish();
                finished.map_err(|error| sink.explain(error))?;
                // What the buffer holds is written here, where a failure is still seen.
                parquet.sink.flush()?;
                parquet
                    .sink
                    .take()
                    .ok_or_else(|| WriteError::Parquet("its sink refused what was left".into()))
            }
        }
    }
}

impl<W: Write + Send> Parquet<W> {
    fn new(
        sink: W,
        columns: &[(&str, Kind)],
        metadata: &[(String, String)],
    ) -> Result<Self, WriteError> {
        let sink = Shared(Arc::new(Mutex::new(Sink {
            out: Some(BufWriter::with_capacity(1 << 20, sink)),
            failure: None,
        })));
        let types = columns.iter().map(|(name, kind)| {
            let kind = match kind {
                Kind::Text => DataType::String,
                Kind::Integer => DataType::Int64,
                Kind::Float => DataType::Float32,
                Kind::Double => DataType::Float64,
            };
            (PlSmallStr::from_str(name), kind)
        });
        let schema: Schema = types.collect();
        let writer = ParquetWriter::new(sink.clone())
            .with_compression(ParquetCompression::Zstd(None))
            .set_parallel(false)
            .with_key_value_metadata(Some(KeyValueMetadata::from_static(metadata.to_vec())))
            .batched(&schema)
            .map_err(|error| sink.explain(error))?;
        let groups = columns.iter().map(|(_, kind)| Buffer::new(*kind)).collect();
        Ok(Self {
            writer,
            sink,
            groups,
            rows: 0,
        })
    }

    fn flush(&mut self, columns: &[(String, Kind)]) -> Result<(), WriteError> {
        let series = self
            .groups
            .iter_mut()
            .zip(columns)
            .map(|(buffer, (name, _))| buffer.take(name))
            .collect();
        let frame = DataFrame::new(self.rows, series)?;
        self.rows = 0;
        let sink = &self.sink;
        let written = self.writer.write_batch(&frame);
        written.map_err(|error| sink.explain(error))
    }
}

impl Buffer {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(Vec::new()),
            Kind::Integer => Self::Integer(Vec::new()),
            Kind::Float => Self::Float(Vec::new()),
            Kind::Double => Self::Double(Vec::new()),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match (self, cell) {
            (Self::Text(values), Cell::Text(text)) => values.push(Some((*text).to_owned())),
            (Self::Integer(values), Cell::Integer(number)) => values.push(Some(*number)),
            (Self::Float(values), Cell::Number(number)) => values.push(Some(*number as f32)),
            (Self::Double(values), Cell::Number(number)) => values.push(Some(*number)),
            (Self::Text(values), Cell::Missing) => values.push(None),
            (Self::Integer(values), Cell::Missing) => values.push(None),
            (Self::Float(values), Cell::Missing) => values.push(None),
            (Self::Double(values), Cell::Missing) => values.push(None),
            (_, cell) => panic!("{cell:?} is not of its column's kind"),
        }
    }

    fn take(&mut self, name: &str) -> Series {
        let name = PlSmallStr::from_str(name);
        match self {
            Self::Text(values) => Series::new(name, std::mem::take(values)),
            Self::Integer(values) => Series::new(name, std::mem::take(values)),
            Self::Float(values) => Series::new(name, std::mem::take(values)),
            Self::Double(values) => Series::new(name, std::mem::take(values)),
        }
    }
}

fn put(line: &mut Vec<u8>, cell: &Cell<'_>, kind: Kind, delimiter: u8) {
    match (cell, kind) {
        (Cell::Text(text), Kind::Text) => put_text(line, text, delimiter),
        (Cell::Integer(number), Kind::Integer) => line.extend(number.to_string().bytes()),
        // Adding zero turns -0 into 0.
        (Cell::Number(number), Kind::Float) => {
            line.extend(format!("{:?}", *number as f32 + 0.0).bytes());
        }
        (Cell::Number(number), Kind::Double) => line.extend(format!("{:?}", number + 0.0).bytes()),
        (Cell::Missing, _) => line.extend(b"NA"),
        (cell, _) => panic!("{cell:?} is not of its column's kind"),
    }
}

fn put_text(line: &mut Vec<u8>, text: &str, delimiter: u8) {
    if delimiter == b',' && text.contains([',', '"', '\n', '\r']) {
        line.push(b'"');
        line.extend(text.replace('"', "\"\"").bytes());
        line.push(b'"');
        return;
    }
    let plain = |byte: u8| match byte {
        b'\t' | b'\n' | b'\r' if delimiter == b'\t' => b' ',
        byte => byte,
    };
    line.extend(text.bytes().map(plain));
}

/// A text sink that can be completed.
trait Finish<W>: Write {
    fn finish(self: Box<Self>) -> io::Result<W>;
}

impl<W: Write> Finish<W> for GzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        let mut sink = GzEncoder::finish(*self)?;
        sink.flush()?;
        Ok(sink)
    }
}

impl<W: Write> Finish<W> for BufWriter<W> {
    fn finish(self: Box<Self>) -> io::Result<W> {
        self.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// A sink that the Parquet writer, which does not give it back, only borrows.
struct Shared<W: Write>(Arc<Mutex<Sink<W>>>);

struct Sink<W: Write> {
    out: Option<BufWriter<W>>,
    /// Why it refused; polars keeps no more than the words.
    failure: Option<io::ErrorKind>,
}

impl<W: Write> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write> Shared<W> {
    fn with<T>(&self, f: impl FnOnce(&mut BufWriter<W>) -> io::Result<T>) -> io::Result<T> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let out = sink.out.as_mut();
        let result = f(out.ok_or_else(|| io::Error::other("the table is finished"))?);
        if let Err(error) = &result {
            sink.failure = Some(error.kind());
        }
        result
    }

    /// The sink's own failure where there was one.
    fn explain(&self, error: PolarsError) -> WriteError {
        let sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.failure.map_or_else(
            || error.into(),
            |kind| WriteError::Io(io::Error::from(kind)),
        )
    }

    fn take(&self) -> Option<W> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.out.take()?.into_inner().ok()
    }
}

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|sink| sink.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{ParquetReader, SerReader};
    use std::io::{Cursor, Read};

    const COLUMNS: &[(&str, Kind)] = &[
        ("chrom", Kind::Text),
        ("pos", Kind::Integer),
        ("llr", Kind::Float),
        ("x", Kind::Double),
    ];

    fn write(format: Format, gzip: bool, rows: usize) -> Vec<u8> {
        let metadata = [("tool".to_owned(), "cistron".to_owned())];
        let mut table =
            TableWriter::new(Vec::new(), format, gzip, COLUMNS, &metadata).expect("begun");
        for i in 0..rows {
            let llr = match i % 3 {
                0 => Cell::Missing,
                _ => Cell::Number(0.1),
            };
            let cells = [
                Cell::Text("a,\tb"),
                Cell::Integer(i as i64),
                llr,
                Cell::Number(-0.0),
            ];
            table.row(&cells).expect("written");
        }
        table.finish().expect("finished")
    }

    #[test]
    fn text_tables_have_names_and_na() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        assert_eq!(
            text(write(Format::Tsv, false, 2)),
            "chrom\tpos\tllr\tx\na, b\t0\tNA\t0.0\na, b\t1\t0.1\t0.0\n"
        );
        assert_eq!(
            text(write(Format::Csv, false, 1)),
            "chrom,pos,llr,x\n\"a,\tb\",0,NA,0.0\n"
        );
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*write(Format::Tsv, true, 2))
            .read_to_string(&mut unpacked)
            .expect("gzip");
        assert_eq!(unpacked, text(write(Format::Tsv, false, 2)));
    }

    #[test]
    fn parquet_comes_back_with_row_groups_and_metadata() {
        let bytes = write(Format::Parquet, false, GROUP + 5);
        assert!(bytes.windows(7).any(|part| part == b"cistron"));
        let mut reader = ParquetReader::new(Cursor::new(bytes));
        let groups = reader.get_metadata().expect("a footer").row_groups.len();
        assert_eq!(groups, 2);
        let frame = reader.finish().expect("Parquet");
        assert_eq!(frame.shape(), (GROUP + 5, 4));
        let llr = frame.column("llr").expect("there").f32().expect("f32");
        assert_eq!((llr.get(0), llr.get(1)), (None, Some(0.1)));
        let pos = frame.column("pos").expect("there").i64().expect("i64");
        assert_eq!(pos.get(GROUP + 4), Some(GROUP as i64 + 4));
        let empty = write(Format::Parquet, false, 0);
        let frame = ParquetReader::new(Cursor::new(empty))
            .finish()
            .expect("Parquet");
        assert_eq!(frame.shape(), (0, 4));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [Format::Tsv, Format::Parquet] {
            let Ok(mut table) = TableWriter::new(Full, format, false, COLUMNS, &[]) else {
                continue;
            };
            let cells = [
                Cell::Text("a"),
                Cell::Integer(1),
                Cell::Missing,
                Cell::Missing,
            ];
            let written = table.row(&cells);
            let failed = written.and_then(|()| table.finish().map(drop));
            assert!(matches!(failed, Err(WriteError::Io(_))), "{format:?}");
        }
    }
}
