//! Coordinates as types: there are no bare numbers whose origin must be guessed.
//!
//! [`Position`] counts from one, as VCF and GFF3 do. [`Interval`] is zero-based and
//! half-open, as BED, bigWig and Rust slices are. Conversions are named functions.

mod name;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use name::ContigName;

/// A base of a contig, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    /// The `one_based`-th base; `None` for 0, which is no base.
    pub fn new(one_based: u64) -> Option<Self> {
        NonZeroU64::new(one_based).map(Self)
    }

    /// The position of the base with the zero-based index `index`; `None` for `u64::MAX`.
    pub fn from_zero_based(index: u64) -> Option<Self> {
        index.checked_add(1).and_then(Self::new)
    }

    /// The count from one.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The index from zero.
    pub fn to_zero_based(self) -> u64 {
        self.get() - 1
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stretch of a contig: zero-based, the end excluded. `start <= end` always holds.
///
/// On a circular contig a feature across the origin has an `end` past the contig's
/// length, as GFF3 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    start: u64,
    end: u64,
}

impl Interval {
    /// The bases `start..end`; `None` when `end < start`.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The interval of GFF3's `start` and `end` columns; `None` when `last < first`.
    pub fn from_one_based_inclusive(first: Position, last: Position) -> Option<Self> {
        (first <= last).then(|| Self {
            start: first.to_zero_based(),
            end: last.get(),
        })
    }

    /// Zero-based index of the first base.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Zero-based index after the last base.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Number of bases.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether no base lies inside.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether the base with the zero-based `index` lies inside.
    pub fn contains(self, index: u64) -> bool {
        (self.start..self.end).contains(&index)
    }

    /// The bases that lie in both; `None` when there are none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }

    /// First and last base counted from one; `None` when empty.
    pub fn to_one_based_inclusive(self) -> Option<(Position, Position)> {
        if self.is_empty() {
            return None;
        }
        Some((
            Position::from_zero_based(self.start)?,
            Position::new(self.end)?,
        ))
    }

    /// The interval as a range of indices.
    pub fn range(self) -> Range<u64> {
        self.start..self.end
    }
}

/// `start-end`, counted from one and inclusive, as genome browsers write it.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start.saturating_add(1), self.end)
    }
}

/// One of the two strands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strand {
    /// As written in the FASTA file (`+`).
    Forward,
    /// The reverse complement (`-`).
    Reverse,
}

impl fmt::Display for Strand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strand::Forward => "+",
            Strand::Reverse => "-",
        })
    }
}

/// The shape of a replicon.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// The contig has two ends.
    #[default]
    Linear,
    /// The last base is followed by the first.
    Circular,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn position_zero_is_no_base() {
        assert_eq!(Position::new(0), None);
        assert_eq!(Position::from_zero_based(u64::MAX), None);
        let first = Position::new(1).unwrap();
        assert_eq!((first.get(), first.to_zero_based()), (1, 0));
        assert_eq!(Position::from_zero_based(0), Some(first));
        assert_eq!(first.to_string(), "1");
    }

    #[test]
    fn interval_edges() {
        let one = Position::new(1).unwrap();
        let single = Interval::from_one_based_inclusive(one, one).unwrap();
        assert_eq!((single.start(), single.end(), single.len()), (0, 1, 1));
        assert_eq!(single.to_string(), "1-1");
        assert_eq!(Interval::new(2, 1), None);
        assert!(Interval::new(5, 5).unwrap().is_empty());
        assert_eq!(Interval::new(5, 5).unwrap().to_one_based_inclusive(), None);
        assert_eq!(
            Interval::from_one_based_inclusive(Position::new(2).unwrap(), one),
            None
        );
        assert!(single.contains(0) && !single.contains(1));
    }

    #[test]
    fn touching_intervals_do_not_intersect() {
        let left = Interval::new(0, 5).unwrap();
        let right = Interval::new(5, 9).unwrap();
        assert_eq!(left.intersection(right), None);
        let middle = Interval::new(4, 7).unwrap();
        assert_eq!(left.intersection(middle), Interval::new(4, 5));
    }

    #[test]
    fn strands_display_as_in_gff() {
        assert_eq!(format!("{}{}", Strand::Forward, Strand::Reverse), "+-");
    }

    proptest! {
        #[test]
        fn positions_round_trip(index in 0..u64::MAX) {
            let position = Position::from_zero_based(index).unwrap();
            prop_assert_eq!(position.to_zero_based(), index);
            prop_assert_eq!(Position::new(position.get()), Some(position));
        }

        #[test]
        fn intervals_round_trip(start in 0u64..1 << 40, len in 1u64..1 << 20) {
            let interval = Interval::new(start, start + len).unwrap();
            let (first, last) = interval.to_one_based_inclusive().unwrap();
            prop_assert_eq!(Interval::from_one_based_inclusive(first, last), Some(interval));
            prop_assert_eq!(last.get() - first.get() + 1, interval.len());
        }
    }
}
