//! bigBed: intervals with columns that an autoSql declaration names, indexed and compressed.
//!
//! * Items come contig by contig, by ascending start; a contig may have none.
//! * The file lists its contigs sorted by the bytes of their names, whatever the order in
//!   which they come. Items wait for that in a temporary file in the folder of the output.
//! * The first nine columns are BED's own, as the header says; the others are ours.
//!
//! Oracle: `pyBigWig` reads back the same items, columns and declaration.

mod source;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use bigtools::BigBedWrite;
use cistron_genome::coord::{Interval, Strand};

use self::source::{Entry, Source};
use crate::atomic::{AtomicFile, folder_of};
use crate::bigwig::encoded;
use crate::contig::{Cursor, Limits};
use crate::sink::Sink;
use crate::{Chunk, ContigSize, TrackError, bed};

const LIMITS: Limits = Limits {
    format: "bigBed",
    contigs: u16::MAX as usize,
    length: u32::MAX as u64,
};

/// Columns of the chunks of one stage: BED9, then the length and the exact probability.
pub const CHUNKS: &str = "\
table chunks
\"Chunks of one stage of a hierarchical model\"
(
    string  chrom;       \"Contig\"
    uint    chromStart;  \"First base, from zero\"
    uint    chromEnd;    \"Base after the last\"
    string  name;        \"Stage and number along the contig\"
    uint    score;       \"Probability of the boundary, times 1000\"
    char[1] strand;      \"Direction in which the model read\"
    uint    thickStart;  \"As chromStart\"
    uint    thickEnd;    \"As chromEnd\"
    uint    reserved;    \"Colour of the stage\"
    uint    length;      \"Bases\"
    float   probability; \"Probability of the boundary at the first base read\"
)
";

/// Columns of genes: BED9, then what the annotation says.
pub const GENES: &str = "\
table genes
\"Genes of the annotation\"
(
    string  chrom;       \"Contig\"
    uint    chromStart;  \"First base, from zero\"
    uint    chromEnd;    \"Base after the last\"
    string  name;        \"Name or locus tag\"
    uint    score;       \"Always 0\"
    char[1] strand;      \"Strand\"
    uint    thickStart;  \"First base of the drawn part\"
    uint    thickEnd;    \"Base after the drawn part\"
    uint    reserved;    \"Colour\"
    string  kind;        \"Kind of feature\"
    string  locusTag;    \"Locus tag\"
    lstring product;     \"Product\"
    string  essScore;    \"Essentiality score in nats, if there is one\"
)
";

/// Offset of the header's count of BED's own columns.
const DEFINED_FIELDS: u64 = 34;
/// BED's own columns in both declarations.
const BED_COLUMNS: u16 = 9;

/// Writes a bigBed, contig by contig.
pub struct Writer {
    output: AtomicFile,
    cursor: Cursor,
    autosql: &'static str,
    spool: BufWriter<File>,
    /// Bytes in the spool.
    written: u64,
    entries: Vec<Entry>,
    contigs: Vec<ContigSize>,
    /// Index of the contig of the last item, and the item's start.
    last: (usize, u64),
}

impl Writer {
    /// Opens the track at `path`; `contigs` in the order in which their items will come;
    /// `autosql` declares the columns, of which the first nine are BED's.
    ///
    /// # Errors
    /// The folder cannot be written to, or the format cannot hold these contigs.
    pub fn create(
        path: &Path,
        contigs: &[ContigSize],
        autosql: &'static str,
    ) -> Result<Self, TrackError> {
        let io = |error| TrackError::io(path, error);
        Ok(Self {
            cursor: Cursor::new(path, contigs, &LIMITS)?,
            output: AtomicFile::create(path).map_err(io)?,
            autosql,
            spool: BufWriter::new(tempfile::tempfile_in(folder_of(path)).map_err(io)?),
            written: 0,
            entries: Vec::new(),
            contigs: contigs.to_vec(),
            last: (0, 0),
        })
    }

    /// Appends an item with the columns after `chromEnd`, separated by tabs.
    ///
    /// # Errors
    /// The contig is unknown or its turn has passed, the item reaches past its end or
    /// begins before the one before it, or the disk is full.
    pub fn push(
        &mut self,
        contig: &str,
        interval: Interval,
        columns: &str,
    ) -> Result<(), TrackError> {
        let path = self.cursor.path();
        let (at, before) = self.last;
        let Some(number) = (at..self.contigs.len()).find(|&i| self.contigs[i].name == *contig)
        else {
            return Err(TrackError::UnexpectedContig {
                path: path.to_path_buf(),
                contig: contig.to_owned(),
                expected: "one that was listed and has not ended".to_owned(),
            });
        };
        let length = self.contigs[number].length;
        if interval.end() > length || interval.is_empty() {
            return Err(TrackError::PastEnd {
                path: path.to_path_buf(),
                contig: contig.to_owned(),
                position: interval.end().max(length + 1),
                length,
            });
        }
        if number == at && interval.start() < before {
            return Err(TrackError::NotSorted {
                path: path.to_path_buf(),
                contig: contig.to_owned(),
                position: interval.start() + 1,
                before: before + 1,
            });
        }
        self.last = (number, interval.start());
        let line = format!("{}\t{}\t{columns}\n", interval.start(), interval.end());
        self.spool
            .write_all(line.as_bytes())
            .map_err(|error| TrackError::io(path, error))?;
        match self.entries.last_mut() {
            Some(entry) if entry.name == *contig => entry.bytes.end += line.len() as u64,
            _ => self.entries.push(Entry {
                name: self.contigs[number].name.clone(),
                length: u32::try_from(length).unwrap_or(u32::MAX),
                bytes: self.written..self.written + line.len() as u64,
            }),
        }
        self.written += line.len() as u64;
        Ok(())
    }

    /// Encodes the file and gives it its name.
    ///
    /// # Errors
    /// There is no item, or the disk is full.
    pub fn finish(mut self) -> Result<(), TrackError> {
        let path = self.cursor.path().to_path_buf();
        let io = |error| TrackError::io(&path, error);
        if self.entries.is_empty() {
            return Err(TrackError::NoValues { path });
        }
        let spool = self.spool.into_inner().map_err(|e| io(e.into_error()))?;
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let sizes: HashMap<String, u32> = self
            .entries
            .iter()
            .map(|entry| (entry.name.to_string(), entry.length))
            .collect();
        let (sink, outcome) = Sink::new(self.output.try_clone().map_err(io)?);
        let mut encoder = BigBedWrite::new(sink, sizes);
        encoder.options.inmemory = true;
        encoder.autosql = Some(self.autosql.to_owned());
        encoded(&path, &outcome, |runtime| {
            encoder.write(Source::new(self.entries, spool), runtime)
        })?;
        self.output
            .seek(SeekFrom::Start(DEFINED_FIELDS))
            .and_then(|_| self.output.write_all(&BED_COLUMNS.to_ne_bytes()))
            .map_err(io)?;
        self.output.commit().map_err(io)
    }
}

/// Writes the chunks of one stage on one strand.
pub struct ChunkWriter {
    writer: Writer,
    stage: usize,
    strand: Strand,
    contig: String,
    number: u64,
}

impl ChunkWriter {
    /// Opens the track at `path`; `stage` counts from one.
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create(
        path: &Path,
        contigs: &[ContigSize],
        stage: usize,
        strand: Strand,
    ) -> Result<Self, TrackError> {
        Ok(Self {
            writer: Writer::create(path, contigs, CHUNKS)?,
            stage,
            strand,
            contig: String::new(),
            number: 0,
        })
    }

    /// Appends the next chunk of `contig`, by ascending forward coordinates on both strands.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn push(&mut self, contig: &str, chunk: Chunk) -> Result<(), TrackError> {
        if self.contig != contig {
            contig.clone_into(&mut self.contig);
            self.number = 0;
        }
        self.number += 1;
        let columns = format!(
            "{}\t{}\t{:?}",
            bed::columns(self.stage, self.number, self.strand, chunk),
            chunk.interval.len(),
            chunk.probability
        );
        self.writer.push(contig, chunk.interval, &columns)
    }

    /// Encodes the file and gives it its name.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(self) -> Result<(), TrackError> {
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bigtools::BigBedRead;

    fn interval(start: u64, end: u64) -> Interval {
        Interval::new(start, end).unwrap()
    }

    #[test]
    fn chunks_are_read_back_with_all_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bb");
        let contigs = [
            ContigSize::new("z", 10),
            ContigSize::new("empty", 0),
            ContigSize::new("a", 3),
        ];
        let mut writer = ChunkWriter::create(&path, &contigs, 2, Strand::Reverse).unwrap();
        for (contig, start, end, probability) in
            [("z", 0, 4, 1.0), ("z", 4, 10, 0.75), ("a", 0, 3, 0.1)]
        {
            let interval = interval(start, end);
            let chunk = Chunk {
                interval,
                probability,
            };
            writer.push(contig, chunk).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let header = std::fs::read(&path).unwrap();
        assert_eq!(header[32..36], [11, 0, 9, 0]);
        let mut file = BigBedRead::open_file(&path).unwrap();
        assert_eq!(file.autosql().unwrap().unwrap().trim(), CHUNKS.trim());
        let mut read = |contig: &str, end| -> Vec<(u32, u32, String)> {
            file.get_interval(contig, 0, end)
                .unwrap()
                .map(|item| item.map(|i| (i.start, i.end, i.rest)).unwrap())
                .collect()
        };
        assert_eq!(
            read("z", 10),
            [
                (
                    0,
                    4,
                    "s2:000001\t1000\t-\t0\t4\t213,94,0\t4\t1.0".to_owned()
                ),
                (
                    4,
                    10,
                    "s2:000002\t750\t-\t4\t10\t230,159,0\t6\t0.75".to_owned()
                ),
            ]
        );
        assert_eq!(
            read("a", 3)[0].2,
            "s2:000001\t100\t-\t0\t3\t213,94,0\t3\t0.1"
        );
    }

    #[test]
    fn bad_items_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bb");
        let contigs = [ContigSize::new("a", 10), ContigSize::new("b", 5)];
        let open = || Writer::create(&path, &contigs, GENES).unwrap();
        let mut writer = open();
        assert!(matches!(
            writer.push("a", interval(4, 11), ""),
            Err(TrackError::PastEnd { position: 11, .. })
        ));
        writer.push("a", interval(4, 10), "x").unwrap();
        assert!(matches!(
            writer.push("a", interval(3, 4), ""),
            Err(TrackError::NotSorted { position: 4, .. })
        ));
        writer.push("b", interval(0, 1), "x").unwrap();
        assert!(matches!(
            writer.push("a", interval(5, 6), ""),
            Err(TrackError::UnexpectedContig { .. })
        ));
        drop(writer);
        assert!(matches!(open().finish(), Err(TrackError::NoValues { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
