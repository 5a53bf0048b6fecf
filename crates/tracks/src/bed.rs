//! BED: the chunks of one stage on one strand, a line each.
//!
//! | column | |
//! |---|---|
//! | 1-3 `chrom chromStart chromEnd` | the chunk's bases on the forward strand |
//! | 4 `name` | `s1:000123`: the stage and the chunk's number along its contig, from one |
//! | 5 `score` | 0 to 1000: probability of the boundary at the chunk's first base |
//! | 6 `strand` | direction in which the model read |
//! | 7-8 `thickStart thickEnd` | as columns 2 and 3 |
//! | 9 `itemRgb` | colour of the stage, two shades by turns so that neighbours differ |
//!
//! Chunks tile their contig: the writer takes nothing else. Oracle: `tabix` finds the lines
//! of any region of a `.bed.gz`.

use std::io::{BufWriter, Write};
use std::path::Path;

use cistron_genome::coord::Strand;

use crate::atomic::AtomicFile;
use crate::bgzip::{TABIX_LENGTH, TabixWriter};
use crate::contig::{Cursor, Limits};
use crate::{Chunk, ContigSize, TrackError};

const PLAIN: Limits = Limits {
    format: "BED",
    contigs: usize::MAX,
    length: u64::MAX,
};
const INDEXED: Limits = Limits {
    format: "a tabix index",
    contigs: usize::MAX,
    length: TABIX_LENGTH,
};

/// Two shades for each stage, colour-blind safe: blue, vermilion, green, purple.
const COLOURS: [[&str; 2]; 4] = [
    ["0,114,178", "86,180,233"],
    ["213,94,0", "230,159,0"],
    ["0,158,115", "128,205,180"],
    ["148,78,128", "204,121,167"],
];

/// Writes the chunks of one stage on one strand.
pub struct Writer {
    cursor: Cursor,
    lines: Lines,
    stage: usize,
    strand: Strand,
    /// Number of the next chunk of the current contig.
    number: u64,
    line: Vec<u8>,
}

enum Lines {
    Plain(BufWriter<AtomicFile>),
    Indexed(Box<TabixWriter>),
}

impl Writer {
    /// Opens the track at `path`: BGZF with an index `.tbi` beside it when the name ends in
    /// `.gz`, else plain. `stage` counts from one; `contigs` in the order in which their
    /// chunks will come.
    ///
    /// # Errors
    /// The folder cannot be written to, or the format cannot hold these contigs: two of
    /// one name, white space in a name, or (indexed) one longer than 2^29 bases.
    pub fn create(
        path: &Path,
        contigs: &[ContigSize],
        stage: usize,
        strand: Strand,
    ) -> Result<Self, TrackError> {
        let io = |error| TrackError::io(path, error);
        let indexed = path.extension().is_some_and(|suffix| suffix == "gz");
        let limits = if indexed { &INDEXED } else { &PLAIN };
        let cursor = Cursor::new(path, contigs, limits)?;
        let lines = if indexed {
            Lines::Indexed(Box::new(TabixWriter::create(path).map_err(io)?))
        } else {
            Lines::Plain(BufWriter::new(AtomicFile::create(path).map_err(io)?))
        };
        Ok(Self {
            cursor,
            lines,
            stage,
            strand,
            number: 1,
            line: Vec::new(),
        })
    }

    /// Appends the next chunk of `contig`, by ascending forward coordinates on both strands.
    ///
    /// # Errors
    /// It is not the contig's turn, the chunk does not begin where the one before it ended,
    /// it reaches past the contig's end, its probability is not finite, or the disk is full.
    pub fn push(&mut self, contig: &str, chunk: Chunk) -> Result<(), TrackError> {
        let Chunk {
            interval,
            probability,
        } = chunk;
        let expected = self.cursor.enter(contig)?;
        if interval.start() != expected || interval.is_empty() {
            return Err(TrackError::NotTiled {
                path: self.cursor.path().to_path_buf(),
                contig: contig.to_owned(),
                position: interval.start() + 1,
                length: interval.len(),
                expected: expected + 1,
            });
        }
        crate::runs::require_finite(self.cursor.path(), contig, expected, &[probability])?;
        self.cursor.advance(contig, interval.len())?;
        if expected == 0 {
            self.number = 1;
        }
        self.write(contig, chunk)
            .map_err(|error| TrackError::io(self.cursor.path(), error))?;
        self.number += 1;
        Ok(())
    }

    /// Writes the index, if any, and gives the files their names.
    ///
    /// # Errors
    /// A contig is not covered to its end, or the disk is full.
    pub fn finish(self) -> Result<(), TrackError> {
        self.cursor.finish()?;
        match self.lines {
            Lines::Plain(lines) => lines
                .into_inner()
                .map_err(|error| error.into_error())
                .and_then(AtomicFile::commit),
            Lines::Indexed(lines) => lines.finish(),
        }
        .map_err(|error| TrackError::io(self.cursor.path(), error))
    }

    fn write(&mut self, contig: &str, chunk: Chunk) -> std::io::Result<()> {
        let (start, end) = (chunk.interval.start(), chunk.interval.end());
        let columns = columns(self.stage, self.number, self.strand, chunk);
        self.line.clear();
        writeln!(self.line, "{contig}\t{start}\t{end}\t{columns}")?;
        match &mut self.lines {
            Lines::Plain(lines) => lines.write_all(&self.line),
            Lines::Indexed(lines) => lines.write(contig, start, end, &self.line),
        }
    }
}

/// Writes a whole file from `chunks`: the name of a contig and its next chunk.
///
/// # Errors
/// As [`Writer`].
pub fn write_chunks<N: AsRef<str>>(
    path: &Path,
    contigs: &[ContigSize],
    stage: usize,
    strand: Strand,
    chunks: impl IntoIterator<Item = (N, Chunk)>,
) -> Result<(), TrackError> {
    let mut writer = Writer::create(path, contigs, stage, strand)?;
    for (contig, chunk) in chunks {
        writer.push(contig.as_ref(), chunk)?;
    }
    writer.finish()
}

/// Columns 4 to 9 of the `number`-th chunk of a contig.
pub(crate) fn columns(stage: usize, number: u64, strand: Strand, chunk: Chunk) -> String {
    let (start, end) = (chunk.interval.start(), chunk.interval.end());
    let shades = COLOURS[stage.saturating_sub(1) % COLOURS.len()];
    format!(
        "s{stage}:{number:06}\t{}\t{strand}\t{start}\t{end}\t{}",
        score(chunk.probability),
        shades[(number % 2) as usize ^ 1],
    )
}

/// The darker colour of a stage, `red,green,blue`; stages count from one.
pub fn colour(stage: usize) -> &'static str {
    COLOURS[stage.saturating_sub(1) % COLOURS.len()][0]
}

/// BED's score of a probability: 0 to 1000, rounded.
fn score(probability: f32) -> u32 {
    (probability.clamp(0.0, 1.0) * 1000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgzip::query;
    use cistron_genome::coord::Interval;

    fn chunk(start: u64, end: u64, probability: f32) -> Chunk {
        Chunk {
            interval: Interval::new(start, end).unwrap(),
            probability,
        }
    }

    fn contigs() -> [ContigSize; 3] {
        [
            ContigSize::new("b", 10),
            ContigSize::new("empty", 0),
            ContigSize::new("a", 3),
        ]
    }

    fn chunks() -> [(&'static str, Chunk); 3] {
        [
            ("b", chunk(0, 4, 1.0)),
            ("b", chunk(4, 10, 0.7504)),
            ("a", chunk(0, 3, -0.0)),
        ]
    }

    const LINES: [&str; 3] = [
        "b\t0\t4\ts2:000001\t1000\t-\t0\t4\t213,94,0",
        "b\t4\t10\ts2:000002\t750\t-\t4\t10\t230,159,0",
        "a\t0\t3\ts2:000001\t0\t-\t0\t3\t213,94,0",
    ];

    #[test]
    fn plain_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bed");
        write_chunks(&path, &contigs(), 2, Strand::Reverse, chunks()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), LINES);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn indexed_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bed.gz");
        write_chunks(&path, &contigs(), 2, Strand::Reverse, chunks()).unwrap();
        assert_eq!(query(&path, "b", 0, 1).unwrap(), LINES[..1]);
        assert_eq!(query(&path, "b", 3, 5).unwrap(), LINES[..2]);
        assert_eq!(query(&path, "b", 9, 10).unwrap(), LINES[1..2]);
        assert_eq!(query(&path, "a", 2, 3).unwrap(), LINES[2..]);
    }

    #[test]
    fn chunks_that_do_not_tile_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bed");
        let error = |chunks: &[Chunk]| {
            let contigs = [ContigSize::new("c", 10)];
            let chunks = chunks.iter().map(|&chunk| ("c", chunk));
            let error = write_chunks(&path, &contigs, 1, Strand::Forward, chunks).unwrap_err();
            error.to_string().split_once(": ").unwrap().1.to_owned()
        };
        let first = chunk(0, 4, 0.5);
        assert_eq!(
            error(&[first, chunk(5, 10, 0.5)]),
            "c:6: this chunk of 5 bases should begin at base 5; chunks tile their contig"
        );
        assert!(error(&[first, chunk(3, 10, 0.5)]).starts_with("c:4: this chunk"));
        assert!(error(&[chunk(0, 0, 0.5)]).starts_with("c:1: this chunk of 0 bases"));
        assert!(error(&[chunk(0, 11, 0.5)]).starts_with("c:11: data past the contig's end"));
        assert!(error(&[chunk(0, 10, f32::NAN)]).starts_with("c:1: the value is NaN"));
        assert_eq!(error(&[first]), "contig `c` got data for 4 of 10 bases");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
