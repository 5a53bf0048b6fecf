//! The tabix index of an output.

use std::io;
use std::path::Path;

use noodles::bgzf::VirtualPosition;
use noodles::core::Position;
use noodles::csi::binning_index::index::header::Builder;
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::tabix;

use super::WriteError;
use super::output::Output;
use crate::vcf::Record;

/// Last position that a tabix index reaches, 1-based.
const LAST: u64 = 1 << 29;

/// Collects where records lie in the output.
pub(super) struct IndexBuilder {
    indexer: tabix::index::Indexer,
    previous: String,
}

impl Default for IndexBuilder {
    fn default() -> Self {
        let mut indexer = tabix::index::Indexer::default();
        indexer.set_header(Builder::vcf().build());
        Self {
            indexer,
            previous: String::new(),
        }
    }
}

impl IndexBuilder {
    /// Adds a record that takes up the output from `start` to `end`.
    pub(super) fn add(
        &mut self,
        file: &str,
        record: &Record,
        start: VirtualPosition,
        end: VirtualPosition,
    ) -> Result<(), WriteError> {
        let (file, place, line) = (file.to_owned(), record.place(), record.line());
        if record.end() > LAST {
            let end = record.end();
            return Err(WriteError::OutOfIndex {
                file,
                place,
                line,
                end,
            });
        }
        // The telomere before the first base is indexed with that base.
        let position =
            |one_based: u64| Position::new(one_based.max(1) as usize).unwrap_or(Position::MIN);
        let added = self.indexer.add_record(
            record.chrom(),
            position(record.pos()),
            position(record.end()),
            Chunk::new(start, end),
        );
        if added.is_err() {
            let previous = std::mem::take(&mut self.previous);
            return Err(WriteError::Unsorted {
                file,
                place,
                line,
                previous,
            });
        }
        self.previous = place;
        Ok(())
    }

    /// Writes the index.
    pub(super) fn write(self, output: Output, path: &Path) -> Result<(), WriteError> {
        let mut writer = tabix::io::Writer::new(output);
        let written = writer.write_index(&self.indexer.build());
        let committed = written
            .and_then(|()| writer.into_inner().finish())
            .and_then(Output::commit);
        committed.map_err(|source: io::Error| WriteError::Io {
            file: path.display().to_string(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::tests::{names, write};
    use crate::writer::{OutputKind, VcfWriter, WriterOptions};
    use noodles::csi::BinningIndex;
    use std::fs;

    #[test]
    fn contigs_are_indexed_in_file_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vcf.gz");
        let indexed = WriterOptions {
            write_index: true,
            ..WriterOptions::default()
        };
        write(&path, indexed, &[("d", 0), ("d", 1), ("d", 9), ("c", 5)]).unwrap();
        assert_eq!(names(folder.path()), ["a.vcf.gz", "a.vcf.gz.tbi"]);
        let index = tabix::fs::read(folder.path().join("a.vcf.gz.tbi")).unwrap();
        let contigs = index.header().unwrap().reference_sequence_names();
        let contigs: Vec<String> = contigs.iter().map(|name| name.to_string()).collect();
        assert_eq!(contigs, ["d", "c"]);
    }

    #[test]
    fn only_bgzf_files_are_indexed() {
        let folder = tempfile::tempdir().unwrap();
        let indexed = WriterOptions {
            write_index: true,
            ..WriterOptions::default()
        };
        let result = write(&folder.path().join("a.vcf"), indexed, &[]);
        assert!(matches!(result, Err(WriteError::NotIndexable { .. })));
        let bgzf = WriterOptions {
            kind: OutputKind::Bgzf,
            ..indexed
        };
        let result = VcfWriter::create(Path::new("-"), bgzf);
        assert!(matches!(result, Err(WriteError::NotIndexable { .. })));
    }

    #[test]
    fn unsorted_records_are_not_indexed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vcf.gz");
        let indexed = WriterOptions {
            write_index: true,
            ..WriterOptions::default()
        };
        for (places, place, previous) in [
            (&[("c", 1), ("c", 9), ("c", 8)][..], "c:8 (line 5)", "c:9"),
            (&[("c", 1), ("d", 1), ("c", 2)][..], "c:2 (line 5)", "d:1"),
        ] {
            let text = write(&path, indexed, places).unwrap_err().to_string();
            assert!(
                text.contains(&format!("{place} comes after {previous}")),
                "{text}"
            );
            assert!(text.contains("bcftools sort"), "{text}");
            write(
                &path,
                WriterOptions {
                    force: true,
                    ..Default::default()
                },
                places,
            )
            .unwrap();
            fs::remove_file(&path).unwrap();
        }
        let text = write(&path, indexed, &[("c", 1 << 30)])
            .unwrap_err()
            .to_string();
        assert!(text.contains("a tabix index reaches to"), "{text}");
        assert!(names(folder.path()).is_empty());
    }
}
