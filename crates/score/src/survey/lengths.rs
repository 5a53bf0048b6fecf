//! How long chunks are.

use cistron_genome::coord::Strand;
use serde::Serialize;

use super::marks::Mark;

/// Longest length with a count of its own.
const LONGEST: usize = 256;

/// Chunk lengths of one stage on one strand.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Lengths {
    /// Chunks.
    pub chunks: u64,
    /// Mean bases a chunk.
    pub mean: f64,
    /// Length that half of the chunks do not pass.
    pub median: u64,
    /// Longest chunk.
    pub longest: u64,
    /// Chunks of 1, 2, ... bases; the last count holds all longer ones too.
    pub counts: Vec<u64>,
    /// Shares of chunks within genes on the strand that is read whose length is a multiple of
    /// three, one more, and two more.
    pub remainders: [f64; 3],
    #[serde(skip)]
    bases: u64,
    #[serde(skip)]
    inside: [u64; 3],
}

/// Lengths of a contig's chunks, by forward coordinates; `starts` as a spool has them.
pub(super) fn of(starts: &[u8], stage: usize, strand: Strand) -> Vec<u32> {
    let mut lengths = Vec::new();
    let mut open = 0;
    for (i, start) in starts.iter().enumerate() {
        let here = start >> stage & 1 == 1;
        let ended = match strand {
            Strand::Forward => (here && i > 0).then_some(i),
            Strand::Reverse => here.then_some(i + 1),
        };
        if let Some(end) = ended {
            lengths.push((end - open) as u32);
            open = end;
        }
    }
    if open < starts.len() {
        lengths.push((starts.len() - open) as u32);
    }
    lengths
}

impl Lengths {
    /// Adds the chunks of a contig; `marks` of its bases.
    pub(super) fn add(&mut self, lengths: &[u32], marks: &[u16], strand: Strand) {
        self.counts.resize(LONGEST, 0);
        let mut start = 0;
        for &length in lengths {
            let length = length as usize;
            self.counts[length.clamp(1, LONGEST) - 1] += 1;
            self.longest = self.longest.max(length as u64);
            let first = match strand {
                Strand::Forward => start,
                Strand::Reverse => start + length - 1,
            };
            if marks[first] & Mark::Coding.bit() != 0 {
                self.inside[length % 3] += 1;
            }
            start += length;
        }
        self.chunks += lengths.len() as u64;
        self.bases += start as u64;
        self.mean = self.bases as f64 / self.chunks.max(1) as f64;
        let mut seen = 0;
        let half = |count: &&u64| {
            seen += **count;
            2 * seen < self.chunks
        };
        self.median = self.counts.iter().take_while(half).count() as u64 + 1;
        let inside = self.inside.iter().sum::<u64>().max(1) as f64;
        self.remainders = self.inside.map(|count| count as f64 / inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_tile_and_are_counted() {
        let starts = [1, 0, 2, 1, 0, 0, 3, 0];
        assert_eq!(of(&starts, 0, Strand::Forward), [3, 3, 2]);
        assert_eq!(of(&starts, 1, Strand::Forward), [2, 4, 2]);
        assert_eq!(of(&starts, 0, Strand::Reverse), [1, 3, 3, 1]);
        assert_eq!(of(&[], 0, Strand::Forward), [0; 0]);
        let mut lengths = Lengths::default();
        lengths.add(&[3, 3, 2], &[Mark::Coding.bit() | 1; 8], Strand::Forward);
        lengths.add(&[300], &[1; 300], Strand::Forward);
        assert_eq!(
            (lengths.chunks, lengths.median, lengths.longest),
            (4, 3, 300)
        );
        assert_eq!(
            (lengths.counts[1], lengths.counts[2], lengths.counts[255]),
            (1, 2, 1)
        );
        assert_eq!(lengths.mean, 77.0);
        assert_eq!(lengths.remainders, [2.0 / 3.0, 0.0, 1.0 / 3.0]);
    }
}
