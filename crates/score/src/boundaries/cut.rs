//! From starts to chunks, base after base.

use cistron_genome::coord::{Interval, Strand};
use cistron_tracks::Chunk;

/// Cuts a contig into chunks that tile it. Bases come in forward order on both strands; the
/// first base that was read starts a chunk in any case.
#[derive(Debug)]
pub struct Cutter {
    strand: Strand,
    length: u64,
    /// Bases that have come.
    at: u64,
    /// First base of the chunk that is open.
    start: u64,
    /// Probability of its boundary, known at once on the forward strand.
    probability: f32,
}

impl Cutter {
    /// Before the first of `length` bases.
    pub fn new(strand: Strand, length: u64) -> Self {
        Self {
            strand,
            length,
            at: 0,
            start: 0,
            probability: 0.0,
        }
    }

    /// Takes the next base: whether a chunk starts there in reading direction, and how
    /// probably. The result is the chunk that this ended.
    pub fn push(&mut self, starts: bool, probability: f32) -> Option<Chunk> {
        let here = self.at;
        self.at += 1;
        match self.strand {
            Strand::Forward if here == 0 => {
                self.probability = probability;
                None
            }
            Strand::Forward => starts.then(|| {
                let chunk = self.chunk(here, self.probability);
                self.probability = probability;
                chunk
            }),
            // Read from the right: a chunk's first base is its last.
            Strand::Reverse => {
                (starts || self.at == self.length).then(|| self.chunk(self.at, probability))
            }
        }
    }

    /// The chunk at the end of the contig, if it is still open.
    pub fn finish(&mut self) -> Option<Chunk> {
        (self.start < self.at).then(|| self.chunk(self.at, self.probability))
    }

    fn chunk(&mut self, end: u64, probability: f32) -> Chunk {
        let start = std::mem::replace(&mut self.start, end);
        Chunk {
            interval: Interval::new(start, end).expect("a chunk ends after it starts"),
            probability,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_tracks::{Boundary, chunk};
    use proptest::prelude::*;

    proptest! {
        /// As the chunks of all boundaries at once.
        #[test]
        fn chunks_tile_the_contig(
            starts in prop::collection::vec(any::<bool>(), 0..60), reverse: bool,
        ) {
            let strand = if reverse { Strand::Reverse } else { Strand::Forward };
            let length = starts.len();
            let probability = |i: usize| i as f32 / 100.0;
            let mut cutter = Cutter::new(strand, length as u64);
            let mut chunks: Vec<Chunk> = (0..length)
                .filter_map(|i| cutter.push(starts[i], probability(i)))
                .collect();
            chunks.extend(cutter.finish());
            let forward = |read: usize| if reverse { length - 1 - read } else { read };
            let boundaries: Vec<Boundary> = (0..length)
                .filter(|&read| read == 0 || starts[forward(read)])
                .map(|read| Boundary { start: read as u64, probability: probability(forward(read)) })
                .collect();
            let expected = chunk::tile(length as u64, &boundaries, strand).expect("ascending");
            prop_assert_eq!(chunks, expected);
        }
    }
}
