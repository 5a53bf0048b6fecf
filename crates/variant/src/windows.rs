//! Reference and alternate sequences of equal length around a variant.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::revcomp;
use cistron_genome::window::Window;

use crate::status::Status;

/// Two sequences that differ by one variant, in the direction of the strand read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlleleWindows {
    /// Bases with the reference allele; as long as `alternate`.
    pub reference: Vec<u8>,
    /// Bases with the alternate allele.
    pub alternate: Vec<u8>,
    /// Index in both of the first base of the allele; the bases before it are the same.
    pub variant_offset: usize,
}

/// Cuts windows of `context` bases around a variant whose REF begins at the 0-based index
/// `position`.
///
/// Along `strand`, the flank before the allele is half of `context`, the same for both windows.
/// Each allele is followed by as many bases of the contig as make the windows equally long:
/// the far edge moves with the length of the allele, because a sum of log-likelihoods grows
/// with the sequence. On the reverse strand both windows are reverse complements, and what
/// comes before the allele is what lies to its right. The ends of a linear contig clip the
/// windows. Those of a circular contig are wrapped over, and no base is used twice: a contig
/// shorter than `context` gives windows of one turn, less what a deletion takes away.
///
/// # Errors
/// [`Status::TooLong`] when an allele does not fit whole after the first flank, or so few
/// bases follow REF on a linear contig that equal length would cut into an allele.
pub fn windows(
    contig: &Contig,
    position: u64,
    reference: &[u8],
    alternate: &[u8],
    context: usize,
    strand: Strand,
) -> Result<AlleleWindows, Status> {
    let longer = reference.len().max(alternate.len());
    let shorter = reference.len().min(alternate.len());
    let turn = contig.bases.len();
    let deleted = reference.len().saturating_sub(alternate.len());
    let context = match contig.topology {
        Topology::Linear => context,
        Topology::Circular => context.min(turn.saturating_sub(deleted)),
    };
    let flank = context / 2;
    let room = context - flank;
    let start = i64::try_from(position).map_err(|_| Status::OutOfRange)?;
    // The reverse strand is the forward one of the contig turned round.
    let start = match strand {
        Strand::Forward => start,
        Strand::Reverse => turn as i64 - start - reference.len() as i64,
    };
    let bases = |start: i64, len: usize| match strand {
        Strand::Forward => Window::extract(contig, start, len).bases,
        Strand::Reverse => {
            revcomp(&Window::extract(contig, turn as i64 - start - len as i64, len).bases)
        }
    };
    let turned = |allele: &[u8]| match strand {
        Strand::Forward => allele.to_vec(),
        Strand::Reverse => revcomp(allele),
    };
    let (reference, alternate) = (turned(reference), turned(alternate));
    if longer > room {
        return Err(Status::TooLong);
    }
    let left = bases(start - flank as i64, flank);
    let after = start.saturating_add(reference.len() as i64);
    let right = bases(after, room - shorter);
    let tail = room.min(right.len() + shorter);
    if tail < longer {
        return Err(Status::TooLong);
    }
    let window = |allele: &[u8]| [&left, allele, &right[..tail - allele.len()]].concat();
    Ok(AlleleWindows {
        reference: window(&reference),
        alternate: window(&alternate),
        variant_offset: left.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contig(bases: &str, topology: Topology) -> Contig {
        Contig {
            name: "c".into(),
            description: String::new(),
            bases: bases.as_bytes().to_vec(),
            topology,
        }
    }

    fn cut(
        topology: Topology,
        bases: &str,
        position: u64,
        alleles: (&str, &str),
        context: usize,
    ) -> Result<(String, String, usize), Status> {
        let (reference, alternate) = alleles;
        let contig = contig(bases, topology);
        let text = |bases| String::from_utf8(bases).unwrap();
        windows(
            &contig,
            position,
            reference.as_bytes(),
            alternate.as_bytes(),
            context,
            Strand::Forward,
        )
        .map(|w| (text(w.reference), text(w.alternate), w.variant_offset))
    }

    fn ok(
        reference: &str,
        alternate: &str,
        offset: usize,
    ) -> Result<(String, String, usize), Status> {
        Ok((reference.into(), alternate.into(), offset))
    }

    const LETTERS: &str = "ACGTACCGGTTAACGT";

    #[test]
    fn the_right_edge_moves_with_the_allele() {
        use Topology::Linear;
        let snv = cut(Linear, LETTERS, 6, ("C", "T"), 6);
        assert_eq!(snv, ok("TACCGG", "TACTGG", 3));
        let deletion = cut(Linear, LETTERS, 6, ("CGG", "C"), 6);
        assert_eq!(deletion, ok("TACCGG", "TACCTT", 3));
        let insertion = cut(Linear, LETTERS, 6, ("C", "CAA"), 7);
        assert_eq!(insertion, ok("TACCGGT", "TACCAAG", 3));
    }

    #[test]
    fn linear_ends_clip() {
        use Topology::Linear;
        assert_eq!(cut(Linear, LETTERS, 0, ("A", "T"), 6), ok("ACG", "TCG", 0));
        let last = cut(Linear, LETTERS, 15, ("T", "A"), 6);
        assert_eq!(last, ok("ACGT", "ACGA", 3));
        let whole = cut(Linear, "ACGT", 1, ("C", "T"), 99);
        assert_eq!(whole, ok("ACGT", "ATGT", 1));
        let deletion = cut(Linear, "ACGTAC", 1, ("CG", "C"), 99);
        assert_eq!(deletion, ok("ACGTA", "ACTAC", 1));
        let insertion = cut(Linear, "ACGTAC", 1, ("C", "CAA"), 99);
        assert_eq!(insertion, ok("ACGTAC", "ACAAGT", 1));
    }

    #[test]
    fn alleles_that_do_not_fit_are_too_long() {
        use Topology::Linear;
        let long = Err(Status::TooLong);
        assert_eq!(cut(Linear, LETTERS, 6, ("CGG", "C"), 4), long);
        assert!(cut(Linear, LETTERS, 6, ("C", "CAAA"), 7).is_ok());
        assert_eq!(cut(Linear, LETTERS, 6, ("C", "CAAAA"), 7), long);
        assert_eq!(cut(Linear, LETTERS, 6, ("C", "T"), 0), long);
        assert_eq!(cut(Linear, LETTERS, 6, ("C", "T"), 1), ok("C", "T", 0));
        // Equal length would leave the deletion, or the inserted base, out.
        assert_eq!(cut(Linear, LETTERS, 14, ("GT", "G"), 8), long);
        assert_eq!(cut(Linear, LETTERS, 15, ("T", "TA"), 8), long);
    }

    #[test]
    fn circular_contigs_wrap() {
        use Topology::Circular;
        assert_eq!(
            cut(Circular, LETTERS, 0, ("A", "G"), 6),
            ok("CGTACG", "CGTGCG", 3)
        );
        assert_eq!(
            cut(Circular, LETTERS, 15, ("T", "TC"), 6),
            ok("ACGTAC", "ACGTCA", 3)
        );
        assert_eq!(
            cut(Circular, LETTERS, 14, ("GT", "G"), 6),
            ok("AACGTA", "AACGAC", 3)
        );
        // One turn at most, less what the deletion takes.
        assert_eq!(
            cut(Circular, "ACGT", 0, ("A", "C"), 99),
            ok("GTAC", "GTCC", 2)
        );
        assert_eq!(
            cut(Circular, "ACGTTG", 0, ("AC", "A"), 99),
            ok("TGACG", "TGAGT", 2)
        );
        assert_eq!(
            cut(Circular, "ACGT", 0, ("ACGT", "A"), 99),
            Err(Status::TooLong)
        );
    }

    fn topology() -> impl Strategy<Value = Topology> {
        prop_oneof![Just(Topology::Linear), Just(Topology::Circular)]
    }

    proptest! {
        /// Walks both windows along the contig: all but the alleles must come from it.
        #[test]
        fn windows_are_equally_long_and_differ_by_the_variant_alone(
            bases in "[ACGTN]{1,60}",
            topology in topology(),
            place in any::<prop::sample::Index>(),
            deleted in 1usize..6,
            alternate in "[ACGT]{1,6}",
            context in 0usize..80,
        ) {
            let contig = contig(&bases, topology);
            let position = place.index(bases.len());
            let reference = contig.bases[position..(position + deleted).min(bases.len())].to_vec();
            let cut = windows(&contig, position as u64, &reference, alternate.as_bytes(), context, Strand::Forward);
            let Ok(cut) = cut else {
                prop_assert_eq!(cut, Err(Status::TooLong));
                let fits = reference.len().max(alternate.len()) <= context - context / 2;
                let ample = topology == Topology::Linear && position + 12 < bases.len();
                prop_assert!(!(fits && ample), "refused for no reason");
                return Ok(());
            };
            prop_assert_eq!(cut.reference.len(), cut.alternate.len());
            prop_assert!(cut.reference.len() <= context);
            prop_assert!(cut.variant_offset <= context / 2);
            let size = bases.len();
            let at = |i: usize| contig.bases[(position + 2 * size + i - cut.variant_offset) % size];
            for (window, allele) in [
                (&cut.reference, &reference[..]),
                (&cut.alternate, alternate.as_bytes()),
            ] {
                let (left, rest) = window.split_at(cut.variant_offset);
                let expected: Vec<u8> = (0..left.len()).map(at).collect();
                prop_assert_eq!(left, expected);
                let right = rest.strip_prefix(allele);
                prop_assert!(right.is_some(), "the allele is whole");
                let after = cut.variant_offset + reference.len();
                let right = right.unwrap_or_default();
                let expected: Vec<u8> = (after..after + right.len()).map(at).collect();
                prop_assert_eq!(right, expected);
                // No base of the contig twice, and no wrap on a linear one.
                let consumed = left.len() + reference.len() + right.len();
                prop_assert!(consumed <= size);
                if topology == Topology::Linear {
                    prop_assert!(position + reference.len() + right.len() <= size);
                    prop_assert!(left.len() <= position);
                }
            }
        }

        /// The reverse strand is the forward strand of the contig turned round.
        #[test]
        fn the_reverse_strand_mirrors_the_forward_one(
            bases in "[ACGT]{1,40}", topology in topology(), place in any::<prop::sample::Index>(),
            alternate in "[ACGT]{1,3}", context in 0usize..60,
        ) {
            let here = contig(&bases, topology);
            let position = place.index(bases.len());
            let reference = &here.bases[position..=position];
            let turned = Contig { bases: revcomp(&here.bases), ..here.clone() };
            let mirrored = (bases.len() - 1 - position) as u64;
            let alt = alternate.as_bytes();
            prop_assert_eq!(
                windows(&here, position as u64, reference, alt, context, Strand::Reverse),
                windows(&turned, mirrored, &revcomp(reference), &revcomp(alt), context, Strand::Forward)
            );
        }

        /// Rotating a circular contig rotates nothing in its windows.
        #[test]
        fn the_origin_of_a_circular_contig_does_not_matter(
            bases in "[ACGT]{8,40}", position in 0usize..8, turn in 0usize..40,
            alternate in "[ACGT]{1,3}", context in 0usize..60,
        ) {
            let turn = turn % bases.len();
            let reference = bases.as_bytes()[position..=position].to_vec();
            let mut turned = bases.clone().into_bytes();
            turned.rotate_right(turn);
            let moved = ((position + turn) % bases.len()) as u64;
            let here = contig(&bases, Topology::Circular);
            let there = contig(std::str::from_utf8(&turned).unwrap(), Topology::Circular);
            prop_assert_eq!(
                windows(&here, position as u64, &reference, alternate.as_bytes(), context, Strand::Forward),
                windows(&there, moved, &reference, alternate.as_bytes(), context, Strand::Forward)
            );
        }
    }
}
