//! What was read of one strand of a genome, in a temporary file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Piece;

/// A value of each base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `-log2` of its likelihood, in bits.
    Information,
    /// Entropy of its prediction, in bits.
    Entropy,
    /// Boundary probability of a stage, counted from zero.
    Probability(usize),
}

/// The values of all contigs end to end, in forward coordinates, whatever the order in which
/// they come. The file has no name and vanishes with this.
#[derive(Debug)]
pub struct Spool {
    file: File,
    total: u64,
    stages: usize,
}

impl Spool {
    /// Room for `total` bases and up to eight stages, on the disk that holds `folder`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(folder: &Path, total: u64, stages: usize) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            total,
            stages: stages.min(8),
        })
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.stages
    }

    /// Takes a piece whose contig begins at the base `first` of the genome.
    ///
    /// # Errors
    /// The disk is full.
    pub fn put(&self, first: u64, piece: &Piece) -> io::Result<()> {
        let at = first + piece.start as u64;
        let floats = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let write = |column, values: &[f32]| {
            self.file
                .write_all_at(&floats(values), self.offset(column, at))
        };
        write(Column::Information, &piece.information)?;
        write(Column::Entropy, &piece.entropy)?;
        let mut starts = vec![0u8; piece.information.len()];
        for (i, stage) in piece.stages.iter().take(self.stages).enumerate() {
            write(Column::Probability(i), &stage.prob)?;
            for (slot, &start) in starts.iter_mut().zip(&stage.start) {
                *slot |= u8::from(start) << i;
            }
        }
        self.file.write_all_at(&starts, self.starts_at() + at)
    }

    /// Values of the bases `range` of the genome.
    ///
    /// # Errors
    /// They were not all put, or cannot be read.
    pub fn floats(&self, column: Column, range: Range<u64>) -> io::Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * (range.end - range.start) as usize];
        self.file
            .read_exact_at(&mut bytes, self.offset(column, range.start))?;
        let word = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        Ok(bytes.chunks_exact(4).map(word).collect())
    }

    /// For each of the bases `range` of the genome the stages that start a chunk there, the
    /// outermost in the lowest bit.
    ///
    /// # Errors
    /// As [`Spool::floats`].
    pub fn starts(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file
            .read_exact_at(&mut bytes, self.starts_at() + range.start)?;
        Ok(bytes)
    }

    fn offset(&self, column: Column, at: u64) -> u64 {
        let number = match column {
            Column::Information => 0,
            Column::Entropy => 1,
            Column::Probability(stage) => 2 + stage as u64,
        };
        4 * (number * self.total + at)
    }

    fn starts_at(&self) -> u64 {
        4 * (2 + self.stages as u64) * self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundaries::StagePiece;

    #[test]
    fn pieces_come_in_any_order() {
        let folder = tempfile::tempdir().expect("folder");
        let spool = Spool::create(folder.path(), 5, 2).expect("created");
        let piece = |start, values: &[f32]| Piece {
            start,
            information: values.to_vec(),
            entropy: values.iter().map(|v| v + 10.0).collect(),
            stages: [0.5, 0.25]
                .map(|p| StagePiece {
                    prob: vec![p; values.len()],
                    start: values.iter().map(|v| *v > 2.0 || p > 0.3).collect(),
                })
                .to_vec(),
        };
        spool.put(2, &piece(1, &[3.0, 4.0])).expect("put");
        spool.put(2, &piece(0, &[2.0])).expect("put");
        spool.put(0, &piece(0, &[0.0, 1.0])).expect("put");
        let floats = |column, range| spool.floats(column, range).expect("read");
        assert_eq!(floats(Column::Information, 0..5), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(floats(Column::Entropy, 1..3), [11.0, 12.0]);
        assert_eq!(floats(Column::Probability(1), 4..5), [0.25]);
        assert_eq!(spool.starts(0..5).expect("read"), [1, 1, 1, 3, 3]);
    }
}
