//! bedGraph: one line for each run of equal values, in BGZF with a tabix index.
//!
//! `contig start end value`, separated by tabs, contigs in the order given. A value is the
//! shortest decimal number that reads back as the same `f32`.
//!
//! Oracle: `tabix` finds the lines of any region.

use std::io::Write;
use std::path::Path;

use crate::bgzip::{TABIX_LENGTH, TabixWriter};
use crate::contig::{Cursor, Limits};
use crate::runs::{Run, Runs, require_finite};
use crate::{ContigSize, TrackError};

const LIMITS: Limits = Limits {
    format: "a tabix index",
    contigs: usize::MAX,
    length: TABIX_LENGTH,
};

/// Writes `x.bedGraph.gz` and `x.bedGraph.gz.tbi`, contig by contig.
///
/// ```
/// use cistron_tracks::{ContigSize, bedgraph};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("boundary.bedGraph.gz");
/// let mut writer = bedgraph::Writer::create(&path, &[ContigSize::new("chr", 3)])?;
/// writer.push("chr", &[1.0, 0.25, 0.25])?;
/// writer.finish()?;
/// assert!(folder.path().join("boundary.bedGraph.gz.tbi").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    cursor: Cursor,
    runs: Runs,
    /// The contig that `runs` belongs to.
    contig: String,
    lines: TabixWriter,
    line: Vec<u8>,
}

impl Writer {
    /// Opens the track at `path`, which should end in `.bedGraph.gz`; `contigs` in the
    /// order in which their values will come.
    ///
    /// # Errors
    /// The folder cannot be written to, or the format cannot hold these contigs: two of
    /// one name, white space in a name, or one longer than 2^29 bases.
    pub fn create(path: &Path, contigs: &[ContigSize]) -> Result<Self, TrackError> {
        Ok(Self {
            cursor: Cursor::new(path, contigs, &LIMITS)?,
            runs: Runs::default(),
            contig: String::new(),
            lines: TabixWriter::create(path).map_err(|e| TrackError::io(path, e))?,
            line: Vec::new(),
        })
    }

    /// Appends the values of the next `values.len()` bases of `contig`.
    ///
    /// # Errors
    /// It is not the contig's turn, the values reach past its end, one is not finite, or
    /// the disk is full.
    pub fn push(&mut self, contig: &str, values: &[f32]) -> Result<(), TrackError> {
        let start = self.advance(contig, values.len() as u64)?;
        require_finite(self.cursor.path(), contig, start, values)?;
        values.iter().try_for_each(|&value| {
            let ended = self.runs.push(Some(value));
            self.write(ended)
        })
    }

    /// Leaves the next `count` bases of `contig` without value.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn skip(&mut self, contig: &str, count: u64) -> Result<(), TrackError> {
        self.advance(contig, count)?;
        (0..count).try_for_each(|_| {
            let ended = self.runs.push(None);
            self.write(ended)
        })
    }

    /// Writes the index and gives both files their names.
    ///
    /// # Errors
    /// A contig lacks values, or the disk is full.
    pub fn finish(mut self) -> Result<(), TrackError> {
        self.cursor.finish()?;
        let last = self.runs.finish();
        self.write(last)?;
        let path = self.cursor.path();
        self.lines.finish().map_err(|e| TrackError::io(path, e))
    }

    fn advance(&mut self, contig: &str, count: u64) -> Result<u64, TrackError> {
        if !self.cursor.is_current(contig) {
            self.cursor.enter(contig)?;
            let last = self.runs.finish();
            self.write(last)?;
            contig.clone_into(&mut self.contig);
        }
        self.cursor.advance(contig, count)
    }

    fn write(&mut self, run: Option<Run>) -> Result<(), TrackError> {
        let Some(Run { start, end, value }) = run else {
            return Ok(());
        };
        self.line.clear();
        writeln!(self.line, "{}\t{start}\t{end}\t{value:?}", self.contig)
            .and_then(|()| self.lines.write(&self.contig, start, end, &self.line))
            .map_err(|error| TrackError::io(self.cursor.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgzip::query;
    use noodles::bgzf;
    use proptest::prelude::*;
    use std::io::Read;

    fn text(path: &Path) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap();
        let mut reader = bgzf::io::Reader::new(file);
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn runs_gaps_and_extreme_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bedGraph.gz");
        let contigs = [
            ContigSize::new("b", 5),
            ContigSize::new("empty", 0),
            ContigSize::new("a", 3),
        ];
        let mut writer = Writer::create(&path, &contigs).unwrap();
        writer.push("b", &[0.1, 0.1]).unwrap();
        writer.push("b", &[0.1]).unwrap();
        writer.skip("b", 1).unwrap();
        writer.push("b", &[0.1]).unwrap();
        writer.push("a", &[0.1, f32::MIN_POSITIVE, -3e38]).unwrap();
        writer.finish().unwrap();
        assert_eq!(
            text(&path),
            "b\t0\t3\t0.1\nb\t4\t5\t0.1\na\t0\t1\t0.1\na\t1\t2\t1.1754944e-38\na\t2\t3\t-3e38\n"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_index_finds_starts_and_ends_of_contigs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bedGraph.gz");
        let contigs = [ContigSize::new("z", 100_000), ContigSize::new("a", 70_000)];
        let mut writer = Writer::create(&path, &contigs).unwrap();
        for contig in &contigs {
            let values: Vec<f32> = (0..contig.length).map(|i| i as f32).collect();
            values
                .chunks(777)
                .for_each(|piece| writer.push(&contig.name, piece).unwrap());
        }
        writer.finish().unwrap();
        for contig in &contigs {
            let n = contig.length;
            for at in [0, 1, 16_383, 16_384, 60_000, n - 1] {
                let line = format!("{}\t{at}\t{}\t{:?}", contig.name, at + 1, at as f32);
                assert_eq!(query(&path, &contig.name, at, at + 1).unwrap(), [line]);
            }
            assert_eq!(query(&path, &contig.name, n, n + 10).unwrap().len(), 0);
            assert_eq!(query(&path, &contig.name, 0, n).unwrap().len() as u64, n);
        }
    }

    #[test]
    fn an_unfinished_track_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bedGraph.gz");
        let contigs = [ContigSize::new("a", 2), ContigSize::new("b", 1)];
        let mut writer = Writer::create(&path, &contigs).unwrap();
        writer.push("a", &[1.0]).unwrap();
        assert!(matches!(
            writer.push("b", &[1.0]),
            Err(TrackError::Unfinished { got: 1, .. })
        ));
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn values_are_read_back_bit_for_bit(
            values in prop::collection::vec(
                prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 1..50)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.bedGraph.gz");
            let contigs = [ContigSize::new("c", values.len() as u64)];
            let mut writer = Writer::create(&path, &contigs).unwrap();
            writer.push("c", &values).unwrap();
            writer.finish().unwrap();
            let mut read = Vec::new();
            for line in text(&path).lines() {
                let fields: Vec<_> = line.split('\t').collect();
                let (start, end): (usize, usize) =
                    (fields[1].parse().unwrap(), fields[2].parse().unwrap());
                let value: f32 = fields[3].parse().unwrap();
                read.extend(std::iter::repeat_n(value.to_bits(), end - start));
            }
            let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
            prop_assert_eq!(read, bits);
        }
    }
}
