//! Stretches of a contig, clipped or wrapped at its ends.

use crate::coord::Topology;
use crate::fasta::Contig;

/// Bases cut from a contig, and what could not be had of those asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The bases, at most one turn of a circular contig.
    pub bases: Vec<u8>,
    /// Zero-based index in the contig of the first base, after clipping or wrapping.
    pub start: i64,
    /// Bases asked for that lie before a linear contig's first base.
    pub clipped_left: usize,
    /// Bases asked for that lie after a linear contig's last base, or beyond one turn of a
    /// circular one.
    pub clipped_right: usize,
}

impl Window {
    /// The `len` bases from the zero-based index `start`, which may be negative or past the
    /// end. A linear contig clips the window; a circular one wraps it, never beyond one turn.
    /// `bases.len() + clipped_left + clipped_right == len` always holds.
    pub fn extract(contig: &Contig, start: i64, len: usize) -> Window {
        match contig.topology {
            Topology::Linear => clip(&contig.bases, start, len),
            Topology::Circular => wrap(&contig.bases, start, len),
        }
    }
}

fn clip(bases: &[u8], start: i64, len: usize) -> Window {
    let start = i128::from(start);
    let end = start + len as i128;
    let size = bases.len() as i128;
    let from = start.clamp(0, size);
    let to = end.clamp(from, size);
    let clipped_left = (-start).clamp(0, len as i128);
    let bases = bases[from as usize..to as usize].to_vec();
    Window {
        clipped_left: clipped_left as usize,
        clipped_right: len - bases.len() - clipped_left as usize,
        start: from as i64,
        bases,
    }
}

fn wrap(bases: &[u8], start: i64, len: usize) -> Window {
    if bases.is_empty() {
        return clip(bases, 0, len);
    }
    let from = (i128::from(start).rem_euclid(bases.len() as i128)) as usize;
    let kept = len.min(bases.len());
    let first = kept.min(bases.len() - from);
    let mut wrapped = Vec::with_capacity(kept);
    wrapped.extend_from_slice(&bases[from..from + first]);
    wrapped.extend_from_slice(&bases[..kept - first]);
    Window {
        bases: wrapped,
        start: from as i64,
        clipped_left: 0,
        clipped_right: len - kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contig(bases: &[u8], topology: Topology) -> Contig {
        Contig {
            name: "c".into(),
            description: String::new(),
            bases: bases.to_vec(),
            topology,
        }
    }

    #[test]
    fn linear_ends_clip() {
        let c = contig(b"ACGTA", Topology::Linear);
        let w = Window::extract(&c, -2, 4);
        assert_eq!((w.bases.as_slice(), w.start), (&b"AC"[..], 0));
        assert_eq!((w.clipped_left, w.clipped_right), (2, 0));
        let w = Window::extract(&c, 4, 3);
        assert_eq!((w.bases.as_slice(), w.start), (&b"A"[..], 4));
        assert_eq!((w.clipped_left, w.clipped_right), (0, 2));
        let w = Window::extract(&c, -1, 9);
        assert_eq!((w.clipped_left, w.bases.len(), w.clipped_right), (1, 5, 3));
    }

    #[test]
    fn windows_outside_are_empty() {
        let c = contig(b"ACGTA", Topology::Linear);
        for (start, left, right) in [(-9, 3, 0), (5, 0, 3), (100, 0, 3), (i64::MIN, 3, 0)] {
            let w = Window::extract(&c, start, 3);
            assert!(w.bases.is_empty());
            assert_eq!((w.clipped_left, w.clipped_right), (left, right));
        }
        let w = Window::extract(&contig(b"", Topology::Circular), 7, 3);
        assert_eq!((w.bases.len(), w.clipped_right), (0, 3));
    }

    #[test]
    fn circular_contigs_wrap_at_most_one_turn() {
        let c = contig(b"ACGTN", Topology::Circular);
        let w = Window::extract(&c, -2, 4);
        assert_eq!((w.bases.as_slice(), w.start), (&b"TNAC"[..], 3));
        let w = Window::extract(&c, 4, 8);
        assert_eq!((w.bases.as_slice(), w.clipped_right), (&b"NACGT"[..], 3));
    }

    proptest! {
        #[test]
        fn circular_equals_modular_indexing(
            bases in "[ACGTN]{1,40}", start in -200i64..200, len in 0usize..120,
        ) {
            let c = contig(bases.as_bytes(), Topology::Circular);
            let w = Window::extract(&c, start, len);
            let size = bases.len() as i64;
            let expected: Vec<u8> = (0..len.min(bases.len()) as i64)
                .map(|i| c.bases[(start + i).rem_euclid(size) as usize])
                .collect();
            prop_assert_eq!(w.bases.len() + w.clipped_left + w.clipped_right, len);
            prop_assert_eq!(w.start, start.rem_euclid(size));
            prop_assert_eq!(w.bases, expected);
        }

        #[test]
        fn linear_equals_indexing_where_bases_exist(
            bases in "[ACGTN]{0,40}", start in -60i64..60, len in 0usize..120,
        ) {
            let c = contig(bases.as_bytes(), Topology::Linear);
            let w = Window::extract(&c, start, len);
            let wanted = start..start + len as i64;
            let expected: Vec<u8> = wanted
                .clone()
                .filter_map(|i| usize::try_from(i).ok().and_then(|i| c.bases.get(i)).copied())
                .collect();
            prop_assert_eq!(w.clipped_left, wanted.filter(|i| *i < 0).count());
            prop_assert_eq!(w.bases.len() + w.clipped_left + w.clipped_right, len);
            prop_assert_eq!(w.bases, expected);
        }
    }
}
