//! Lines in BGZF with a tabix index.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use noodles::bgzf;
use noodles::core::Position;
use noodles::csi::binning_index::index::header::Builder;
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::tabix;

use crate::atomic::AtomicFile;

/// Longest contig that a tabix index can address, in bases.
pub(crate) const TABIX_LENGTH: u64 = 1 << 29;

/// Lines of a BED-like format: contigs in blocks, sorted by start within each.
pub(crate) struct TabixWriter {
    lines: bgzf::io::Writer<AtomicFile>,
    indexer: tabix::index::Indexer,
    index_path: PathBuf,
}

impl TabixWriter {
    /// Opens `path` for BED-like lines; the index becomes `path` with `.tbi` appended.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::with_columns(path, Builder::bed())
    }

    /// Opens `path` for GFF3.
    pub fn gff(path: &Path) -> io::Result<Self> {
        Self::with_columns(path, Builder::gff())
    }

    fn with_columns(path: &Path, columns: Builder) -> io::Result<Self> {
        let mut indexer = tabix::index::Indexer::default();
        indexer.set_header(columns.build());
        let mut index_path = OsString::from(path);
        index_path.push(".tbi");
        // Numbers hardly compress: the lowest level takes half the time of the default and a
        // tenth more space.
        Ok(Self {
            lines: bgzf::io::writer::Builder::default()
                .set_compression_level(bgzf::io::writer::CompressionLevel::FAST)
                .build_from_writer(AtomicFile::create(path)?),
            indexer,
            index_path: index_path.into(),
        })
    }

    /// Writes `line`, newline included, which describes the bases `start..end` of `contig`
    /// (zero-based).
    pub fn write(&mut self, contig: &str, start: u64, end: u64, line: &[u8]) -> io::Result<()> {
        let from = self.lines.virtual_position();
        self.lines.write_all(line)?;
        let chunk = Chunk::new(from, self.lines.virtual_position());
        let (first, last) = (position(start + 1)?, position(end)?);
        self.indexer.add_record(contig, first, last, chunk)
    }

    /// Writes a line that describes no bases, such as a directive.
    pub fn write_header(&mut self, line: &[u8]) -> io::Result<()> {
        self.lines.write_all(line)
    }

    /// Ends the file, writes its index, and gives both their names.
    pub fn finish(self) -> io::Result<()> {
        let lines = self.lines.finish()?;
        let mut index = tabix::io::Writer::new(AtomicFile::create(&self.index_path)?);
        index.write_index(&self.indexer.build())?;
        let index = index.into_inner().finish()?;
        lines.commit()?;
        index.commit()
    }
}

fn position(one_based: u64) -> io::Result<Position> {
    usize::try_from(one_based)
        .ok()
        .and_then(Position::new)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an interval of no bases"))
}

/// The lines that `index` finds in `path` for the bases `start..end` of `contig`.
#[cfg(test)]
pub(crate) fn query(path: &Path, contig: &str, start: u64, end: u64) -> io::Result<Vec<String>> {
    let region = noodles::core::Region::new(contig, position(start + 1)?..=position(end)?);
    let mut reader = tabix::io::indexed_reader::Builder::default().build_from_path(path)?;
    reader
        .query(&region)?
        .map(|record| record.map(|r| r.as_ref().to_owned()))
        .collect()
}
