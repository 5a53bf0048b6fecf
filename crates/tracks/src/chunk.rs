//! Chunks: the stretches into which a model's boundaries cut a contig.

use cistron_genome::coord::{Interval, Strand};

/// The first base of a chunk, as seen in the direction in which the model reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boundary {
    /// Zero-based index of the base in reading direction: on the reverse strand, 0 is the
    /// contig's last base.
    pub start: u64,
    /// The model's probability of this boundary, 0 to 1.
    pub probability: f32,
}

/// A stretch of a contig that the model takes as one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// Its bases, counted on the forward strand.
    pub interval: Interval,
    /// Probability of the boundary at its first base in reading direction, 0 to 1.
    pub probability: f32,
}

/// The chunks of a contig of `length` bases, by ascending forward coordinates.
///
/// `boundaries` come in reading direction of `strand`, strictly ascending, the first at 0.
/// The chunks tile the contig: each ends where the next begins, the last at the end.
///
/// The result is `None` when the boundaries are not so; no boundaries fit a contig of no
/// length only.
///
/// ```
/// use cistron_genome::coord::{Interval, Strand};
/// use cistron_tracks::{Boundary, chunk};
///
/// let boundaries = [(0, 1.0), (4, 0.75)].map(|(start, probability)| Boundary { start, probability });
/// let reverse = chunk::tile(10, &boundaries, Strand::Reverse).expect("ascending from 0");
/// assert_eq!(reverse[0].interval, Interval::new(0, 6).expect("ordered"));
/// assert_eq!(reverse[0].probability, 0.75);
/// ```
pub fn tile(length: u64, boundaries: &[Boundary], strand: Strand) -> Option<Vec<Chunk>> {
    let begins = boundaries.first().map_or(length, |b| b.start) == 0;
    let ends = boundaries
        .iter()
        .skip(1)
        .map(|b| b.start)
        .chain([length])
        .take(boundaries.len());
    let chunk = |(boundary, end): (&Boundary, u64)| {
        let (start, end) = match strand {
            Strand::Forward => (boundary.start, end),
            Strand::Reverse => (
                length.checked_sub(end)?,
                length.checked_sub(boundary.start)?,
            ),
        };
        Some(Chunk {
            interval: Interval::new(start, end).filter(|i| !i.is_empty())?,
            probability: boundary.probability,
        })
    };
    let mut chunks: Vec<Chunk> = boundaries
        .iter()
        .zip(ends)
        .map(chunk)
        .collect::<Option<_>>()?;
    if strand == Strand::Reverse {
        chunks.reverse();
    }
    begins.then_some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boundaries(starts: &[u64]) -> Vec<Boundary> {
        starts
            .iter()
            .map(|&start| Boundary {
                start,
                probability: start as f32 / 100.0,
            })
            .collect()
    }

    fn spans(length: u64, starts: &[u64], strand: Strand) -> Option<Vec<(u64, u64, f32)>> {
        let chunks = tile(length, &boundaries(starts), strand)?;
        let span = |c: Chunk| (c.interval.start(), c.interval.end(), c.probability);
        Some(chunks.into_iter().map(span).collect())
    }

    #[test]
    fn strands_mirror_each_other() {
        use Strand::{Forward, Reverse};
        assert_eq!(
            spans(10, &[0, 4, 9], Forward).unwrap(),
            [(0, 4, 0.0), (4, 9, 0.04), (9, 10, 0.09)]
        );
        assert_eq!(
            spans(10, &[0, 4, 9], Reverse).unwrap(),
            [(0, 1, 0.09), (1, 6, 0.04), (6, 10, 0.0)]
        );
        assert_eq!(spans(1, &[0], Reverse).unwrap(), [(0, 1, 0.0)]);
    }

    #[test]
    fn boundaries_that_do_not_tile_are_refused() {
        for strand in [Strand::Forward, Strand::Reverse] {
            assert_eq!(spans(10, &[1, 4], strand), None, "first base uncovered");
            assert_eq!(spans(10, &[0, 4, 4], strand), None, "a chunk of no bases");
            assert_eq!(spans(10, &[0, 5, 4], strand), None, "descending");
            assert_eq!(spans(10, &[0, 10], strand), None, "past the end");
            assert_eq!(spans(10, &[0, 12], strand), None, "past the end");
            assert_eq!(spans(10, &[], strand), None, "nothing");
            assert_eq!(spans(0, &[0], strand), None, "a contig of no length");
            assert_eq!(spans(0, &[], strand), Some(vec![]));
        }
    }

    proptest! {
        #[test]
        fn chunks_tile_the_contig(
            length in 1..500_u64,
            cuts in prop::collection::btree_set(1..500_u64, 0..40),
            reverse: bool,
        ) {
            let starts: Vec<u64> =
                std::iter::once(0).chain(cuts.into_iter().filter(|&c| c < length)).collect();
            let strand = if reverse { Strand::Reverse } else { Strand::Forward };
            let chunks = spans(length, &starts, strand).unwrap();
            prop_assert_eq!(chunks.len(), starts.len());
            prop_assert_eq!(chunks[0].0, 0);
            prop_assert_eq!(chunks.last().unwrap().1, length);
            for pair in chunks.windows(2) {
                prop_assert_eq!(pair[0].1, pair[1].0);
            }
        }
    }
}
