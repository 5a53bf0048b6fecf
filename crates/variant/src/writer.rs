//! Writing a VCF, plain or BGZF, with an index.
//!
//! `bcftools view` and `tabix` must read what is written here.

mod error;
mod index;
mod output;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use noodles::bgzf;

pub use error::WriteError;

use crate::vcf::Record;
use index::IndexBuilder;
use output::Output;

/// How the output is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputKind {
    /// BGZF when the name ends in `.gz` or `.bgz`, else plain.
    #[default]
    BySuffix,
    /// Plain text.
    Plain,
    /// BGZF.
    Bgzf,
}

/// What to write, and over what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterOptions {
    /// Compression.
    pub kind: OutputKind,
    /// Whether files that exist are replaced.
    pub force: bool,
    /// Whether a tabix index is written beside the output.
    pub write_index: bool,
}

enum Encoder {
    Plain(BufWriter<Output>),
    Bgzf(bgzf::io::Writer<Output>),
}

/// Writes lines to a temporary file that becomes the output when it is whole, or to standard
/// output. Unless [`VcfWriter::finish`] succeeds, no output appears.
pub struct VcfWriter {
    /// Gone once the output is finished.
    encoder: Option<Encoder>,
    index: Option<(IndexBuilder, PathBuf)>,
    file: String,
    force: bool,
}

impl VcfWriter {
    /// Opens an output; `-` is standard output. Whatever is there that is no regular file,
    /// such as a pipe, is written to directly.
    ///
    /// # Errors
    /// When the file exists and is not to be replaced, an index is asked for of what cannot
    /// have one, or the folder cannot be written to.
    pub fn create(path: &Path, options: WriterOptions) -> Result<Self, WriteError> {
        let is_stdout = path == Path::new("-");
        let file = match is_stdout {
            true => "standard output".to_owned(),
            false => path.display().to_string(),
        };
        let suffix = path.extension().unwrap_or_default();
        let is_bgzf = match options.kind {
            OutputKind::BySuffix => suffix == "gz" || suffix == "bgz",
            OutputKind::Plain => false,
            OutputKind::Bgzf => true,
        };
        if options.write_index && (is_stdout || !is_bgzf) {
            return Err(WriteError::NotIndexable { file });
        }
        let output = match is_stdout {
            true => Output::stdout(),
            false => Output::create(path, options.force)?,
        };
        let index_path = options.write_index.then(|| with_suffix(path, ".tbi"));
        if let Some(index) = index_path
            .as_deref()
            .filter(|p| p.exists() && !options.force)
        {
            let file = index.display().to_string();
            return Err(WriteError::Exists { file });
        }
        let encoder = match is_bgzf {
            true => Encoder::Bgzf(bgzf::io::Writer::new(output)),
            false => Encoder::Plain(BufWriter::new(output)),
        };
        Ok(Self {
            encoder: Some(encoder),
            index: index_path.map(|path| (IndexBuilder::default(), path)),
            file,
            force: options.force,
        })
    }

    /// Writes the header as it is.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_header(&mut self, header: &[u8]) -> Result<(), WriteError> {
        self.write(header)
    }

    /// Writes `line`, the line of `record` with whatever was added to it. The line comes
    /// whole, so that a failure before this leaves none half written.
    ///
    /// # Errors
    /// When writing fails, or an index is asked for and the record comes before the one
    /// written last.
    pub fn write_record(&mut self, record: &Record, line: &[u8]) -> Result<(), WriteError> {
        let start = self.virtual_position();
        self.write(line)?;
        let end = self.virtual_position();
        if let Some((index, _)) = &mut self.index {
            index.add(&self.file, record, start, end)?;
        }
        Ok(())
    }

    /// Writes what is left, gives the output its name, and writes the index.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let output = match self.encoder.take() {
            Some(Encoder::Plain(writer)) => writer.into_inner().map_err(|e| e.into_error()),
            Some(Encoder::Bgzf(writer)) => writer.finish(),
            None => return Ok(()),
        };
        let committed = output.and_then(Output::commit);
        committed.map_err(|source| self.failed(source))?;
        match self.index.take() {
            Some((index, path)) => index.write(Output::create(&path, self.force)?, &path),
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let written = match &mut self.encoder {
            Some(Encoder::Plain(writer)) => writer.write_all(bytes),
            Some(Encoder::Bgzf(writer)) => writer.write_all(bytes),
            None => Ok(()),
        };
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError::Io {
            file: self.file.clone(),
            source,
        }
    }

    fn virtual_position(&self) -> bgzf::VirtualPosition {
        match &self.encoder {
            Some(Encoder::Bgzf(writer)) => writer.virtual_position(),
            _ => bgzf::VirtualPosition::MIN,
        }
    }
}

/// An output that was not finished must not look whole: the block that ends a BGZF stream
/// is left out, so that a reader at the other end of a pipe takes note.
impl Drop for VcfWriter {
    fn drop(&mut self) {
        if let Some(Encoder::Bgzf(writer)) = self.encoder.take() {
            drop(writer.into_inner());
        }
    }
}

/// The path with `suffix` appended to its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcf::Reader;
    use std::fs;

    const HEADER: &str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    fn record(chrom: &str, pos: u64, line: u64) -> Record {
        let text = format!("{chrom}\t{pos}\t.\tA\tC\t.\t.\t.\n");
        Record::parse(text.into_bytes(), line, 8).unwrap()
    }

    pub(super) fn write(
        path: &Path,
        options: WriterOptions,
        places: &[(&str, u64)],
    ) -> Result<(), WriteError> {
        let mut writer = VcfWriter::create(path, options)?;
        writer.write_header(HEADER.as_bytes())?;
        for (i, (chrom, pos)) in places.iter().enumerate() {
            let record = record(chrom, *pos, i as u64 + 3);
            writer.write_record(&record, record.raw())?;
        }
        writer.finish()
    }

    pub(super) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn kinds_follow_the_suffix_or_the_option() {
        let folder = tempfile::tempdir().unwrap();
        for (name, kind, is_bgzf) in [
            ("a.vcf", OutputKind::BySuffix, false),
            ("a.vcf.gz", OutputKind::BySuffix, true),
            ("a.bgz", OutputKind::BySuffix, true),
            ("b.vcf", OutputKind::Bgzf, true),
            ("b.vcf.gz", OutputKind::Plain, false),
        ] {
            let path = folder.path().join(name);
            let options = WriterOptions {
                kind,
                ..WriterOptions::default()
            };
            write(&path, options, &[("c", 1), ("c", 2)]).unwrap();
            assert_eq!(
                fs::read(&path).unwrap().starts_with(b"\x1f\x8b\x08\x04"),
                is_bgzf
            );
            assert_eq!(Reader::open(&path).unwrap().count(), 2);
        }
    }

    #[test]
    fn nothing_is_left_of_an_output_that_was_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.vcf", "a.vcf.gz"] {
            let path = folder.path().join(name);
            let mut writer = VcfWriter::create(&path, WriterOptions::default()).unwrap();
            writer.write_header(HEADER.as_bytes()).unwrap();
            assert!(!path.exists());
        }
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_stream_that_was_not_finished_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mut writer = bgzf::io::Writer::new(Output::Direct(fs::File::create(&path).unwrap()));
        writer.write_all(HEADER.as_bytes()).unwrap();
        writer.flush().unwrap();
        drop(VcfWriter {
            encoder: Some(Encoder::Bgzf(writer)),
            index: None,
            file: "pipe".into(),
            force: false,
        });
        assert!(fs::metadata(&path).unwrap().len() > 28);
        let mut reader = Reader::open(&path).unwrap();
        let error = reader.next_record().unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
    }

    #[test]
    fn existing_outputs_are_replaced_by_force_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vcf.gz");
        fs::write(&path, "x").unwrap();
        let text = write(&path, WriterOptions::default(), &[])
            .unwrap_err()
            .to_string();
        assert!(text.ends_with("a.vcf.gz exists; choose another -o or replace it with --force"));
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let force = WriterOptions {
            force: true,
            ..WriterOptions::default()
        };
        write(&path, force, &[("c", 1)]).unwrap();
        assert_eq!(Reader::open(&path).unwrap().count(), 1);
        assert_eq!(names(folder.path()), ["a.vcf.gz"]);
        fs::rename(&path, folder.path().join("b.vcf.gz.tbi")).unwrap();
        let indexed = WriterOptions {
            write_index: true,
            ..WriterOptions::default()
        };
        let result = write(&folder.path().join("b.vcf.gz"), indexed, &[]);
        assert!(matches!(result, Err(WriteError::Exists { .. })));
        assert_eq!(names(folder.path()), ["b.vcf.gz.tbi"]);
    }

    #[test]
    fn errors_name_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.vcf");
        let text = write(&path, WriterOptions::default(), &[])
            .unwrap_err()
            .to_string();
        assert!(text.ends_with("none/a.vcf: cannot be written: No such file or directory (os error 2); make its folder first"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let places = vec![("c", 1); 10_000];
        for kind in [OutputKind::Plain, OutputKind::Bgzf] {
            let options = WriterOptions {
                kind,
                ..WriterOptions::default()
            };
            let text = write(Path::new("/dev/full"), options, &places)
                .unwrap_err()
                .to_string();
            assert!(
                text.starts_with("/dev/full: cannot be written: No space left"),
                "{text}"
            );
        }
        assert!(Path::new("/dev/full").exists());
    }
}
