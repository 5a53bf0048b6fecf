//! Changes as bases of the coding sequence.

use super::codons::Usage;
use super::mutation::Change;
use super::target::Target;

/// Which codon stands for a new amino acid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one with the fewest changes, of those the one that the host uses most.
    Nearest,
    /// The one that the host uses most.
    Frequent,
    /// All of them.
    All,
}

/// A stretch of the coding sequence and what stands there instead: whole codons, but for changes
/// that shift the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Index of its first base.
    pub start: usize,
    /// The wild type's bases; never empty.
    pub reference: Vec<u8>,
    /// The variant's; as the wild type's where nothing changes.
    pub alternate: Vec<u8>,
}

/// Combinations of codons that are kept of one variant.
const MOST: usize = 36;

/// Bases that go and bases that come, for one choice of codons.
#[derive(Clone, Debug)]
struct Piece {
    start: usize,
    end: usize,
    bases: Vec<u8>,
}

impl Target {
    /// The ways to write a variant: one, or with [`Choice::All`] the combinations of synonymous
    /// codons, at most 36, evenly picked of more.
    ///
    /// # Errors
    ///
    /// What keeps the changes from being made: a residue outside the coding sequence, another one
    /// there, or two changes of the same place.
    pub fn edits(
        &self,
        changes: &[Change],
        choice: Choice,
        usage: &Usage,
    ) -> Result<Vec<Edit>, String> {
        let mut places = changes
            .iter()
            .map(|change| self.pieces(change, choice, usage))
            .collect::<Result<Vec<_>, _>>()?;
        places.sort_by_key(|options| (options[0].start, options[0].end));
        for pair in places.windows(2) {
            if pair[1][0].start < pair[0][0].end {
                return Err(format!(
                    "two changes of the bases around {}",
                    pair[1][0].start + 1
                ));
            }
        }
        let total = places
            .iter()
            .try_fold(1usize, |total, options| total.checked_mul(options.len()))
            .unwrap_or(usize::MAX);
        let kept = total.min(MOST);
        Ok((0..kept)
            .map(|i| {
                let mut number = if total == usize::MAX {
                    i.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                } else {
                    (i as u128 * total as u128 / kept as u128) as usize
                };
                let chosen: Vec<&Piece> = places
                    .iter()
                    .map(|options| {
                        let option = &options[number % options.len()];
                        number /= options.len();
                        option
                    })
                    .collect();
                self.join(&chosen)
            })
            .collect())
    }

    fn pieces(&self, change: &Change, choice: Choice, usage: &Usage) -> Result<Vec<Piece>, String> {
        let codon = |position: i64| {
            let at = usize::try_from(position.saturating_sub(self.first)).ok();
            at.filter(|&at| at < self.codons())
                .map(|at| (3 * at, &self.cds[3 * at..3 * at + 3]))
                .ok_or_else(|| {
                    format!(
                        "{change} lies outside the coding sequence, residues {} to {}",
                        self.first,
                        self.first + self.codons() as i64 - 1
                    )
                })
        };
        let piece = |start: usize, bases: &[u8]| Piece {
            start,
            end: start + 3,
            bases: bases.to_vec(),
        };
        match change {
            Change::AminoAcid { position, from, to } => {
                let (start, wild) = codon(*position)?;
                let read = self.code.amino_acid(wild);
                let starts = start == 0 && *from == b'M' && self.code.is_start(wild);
                if read != *from && !starts {
                    return Err(format!(
                        "{change}: the coding sequence has {} there",
                        char::from(read)
                    ));
                }
                let Some(to) = to else {
                    return Ok(vec![piece(start, &[])]);
                };
                let unknown = || format!("{change}: the genetic code has no codon for it");
                let one =
                    |codon: Option<[u8; 3]>| Ok(vec![piece(start, &codon.ok_or_else(unknown)?)]);
                match choice {
                    Choice::Nearest if to == from => one(wild.try_into().ok()),
                    Choice::Nearest => one(usage.nearest(wild, *to, self.code)),
                    Choice::Frequent => one(usage.most_frequent(*to, self.code)),
                    Choice::All => {
                        let all: Vec<Piece> = self
                            .code
                            .codons(*to)
                            .map(|codon| piece(start, &codon))
                            .collect();
                        (!all.is_empty()).then_some(all).ok_or_else(unknown)
                    }
                }
            }
            Change::Codon { position, from, to } => {
                let (start, wild) = codon(*position)?;
                if wild != from {
                    return Err(format!(
                        "{change}: the coding sequence has {} there",
                        String::from_utf8_lossy(wild)
                    ));
                }
                Ok(vec![piece(start, to)])
            }
            Change::Bases {
                start,
                count,
                from,
                to,
            } => {
                let outside = || {
                    format!(
                        "{change} lies outside the coding sequence of {} bases",
                        self.cds.len()
                    )
                };
                let start = start
                    .checked_sub(1)
                    .and_then(|start| usize::try_from(start).ok());
                let start = start.ok_or_else(outside)?;
                let end = usize::try_from(*count)
                    .ok()
                    .and_then(|count| start.checked_add(count))
                    .filter(|&end| end <= self.cds.len())
                    .ok_or_else(outside)?;
                if from.is_some_and(|from| self.cds[start] != from) {
                    return Err(format!(
                        "{change}: the coding sequence has {} there",
                        char::from(self.cds[start])
                    ));
                }
                Ok(vec![Piece {
                    start,
                    end,
                    bases: to.clone(),
                }])
            }
        }
    }

    fn join(&self, pieces: &[&Piece]) -> Edit {
        let length = self.cds.len();
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            let reference = self.cds[..length.min(3)].to_vec();
            return Edit {
                start: 0,
                alternate: reference.clone(),
                reference,
            };
        };
        let start = (first.start / 3 * 3).min(length.saturating_sub(3));
        let end = last.end.max(start + 1).next_multiple_of(3).min(length);
        let mut alternate = Vec::new();
        let mut at = start;
        for piece in pieces {
            alternate.extend_from_slice(&self.cds[at..piece.start]);
            alternate.extend_from_slice(&piece.bases);
            at = piece.end;
        }
        alternate.extend_from_slice(&self.cds[at..end]);
        Edit {
            start,
            reference: self.cds[start..end].to_vec(),
            alternate,
        }
    }
}

impl Edit {
    /// Whether the variant is the wild type.
    pub fn is_identity(&self) -> bool {
        self.reference == self.alternate
    }

    /// Bases that differ; all of an allele's where lengths differ.
    pub fn changed_bases(&self) -> usize {
        if self.reference.len() != self.alternate.len() {
            return self.reference.len().max(self.alternate.len());
        }
        let pairs = self.reference.iter().zip(&self.alternate);
        pairs.filter(|(a, b)| a != b).count()
    }

    /// Codons that differ, counted in the longer allele.
    pub fn changed_codons(&self) -> usize {
        let before: Vec<&[u8]> = self.reference.chunks(3).collect();
        let after: Vec<&[u8]> = self.alternate.chunks(3).collect();
        (0..before.len().max(after.len()))
            .filter(|&i| before.get(i) != after.get(i))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dms::mutation::parse;
    use cistron_genome::code::GeneticCode;

    fn target() -> Target {
        Target {
            name: "t".into(),
            cds: b"GTGGCTAAAGGTTGGCCTTAA".to_vec(),
            first: 1,
            code: GeneticCode::Eleven,
            back_translated: false,
            repaired: vec![],
        }
    }

    fn edits(changes: &str, choice: Choice) -> Result<Vec<(usize, String, String)>, String> {
        let text = |bases: Vec<u8>| String::from_utf8(bases).unwrap();
        let edits = target().edits(&parse(changes).unwrap(), choice, &Usage::ecoli())?;
        Ok(edits
            .into_iter()
            .map(|e| (e.start, text(e.reference), text(e.alternate)))
            .collect())
    }

    fn one(changes: &str, choice: Choice) -> (usize, String, String) {
        edits(changes, choice).unwrap().remove(0)
    }

    fn edit(start: usize, reference: &str, alternate: &str) -> (usize, String, String) {
        (start, reference.into(), alternate.into())
    }

    #[test]
    fn one_codon_or_all() {
        use Choice::*;
        assert_eq!(one("A2G", Nearest), edit(3, "GCT", "GGT"));
        assert_eq!(one("A2G", Frequent), edit(3, "GCT", "GGC"));
        assert_eq!(edits("A2G", All).unwrap().len(), 4);
        assert_eq!(one("A2A", Nearest), edit(3, "GCT", "GCT"));
        assert_eq!(one("M1V", Nearest), edit(0, "GTG", "GTG"));
        assert_eq!(one("*7W", Nearest).2.len(), 3);
        assert_eq!(one("GCT2GCC", Nearest), edit(3, "GCT", "GCC"));
        assert_eq!(one("WT", Nearest), edit(0, "GTG", "GTG"));
    }

    #[test]
    fn several_changes_are_one_stretch() {
        use Choice::*;
        assert_eq!(
            one("W5C:A2G", Nearest),
            edit(3, "GCTAAAGGTTGG", "GGTAAAGGTTGC")
        );
        assert_eq!(edits("A2G:G4A", All).unwrap().len(), 16);
        let many = edits("A2G:G4A:P6L", All).unwrap();
        assert_eq!(many.len(), 36);
        let distinct: std::collections::HashSet<_> = many.iter().collect();
        assert_eq!(distinct.len(), 36);
        assert!(
            edits("A2G:A2V", Nearest)
                .unwrap_err()
                .contains("two changes")
        );
    }

    #[test]
    fn bases_may_come_and_go() {
        use Choice::*;
        assert_eq!(one("c.4G>A", Nearest), edit(3, "GCT", "ACT"));
        assert_eq!(one("A2del", Nearest), edit(3, "GCT", ""));
        assert_eq!(one("c.6_7insCCC", Nearest), edit(6, "AAA", "CCCAAA"));
        assert_eq!(one("c.5_8del", Nearest), edit(3, "GCTAAA", "GA"));
        assert_eq!(one("c.21_21del", Nearest), edit(18, "TAA", "TA"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let error = |changes| edits(changes, Choice::Nearest).unwrap_err();
        assert_eq!(error("C2G"), "C2G: the coding sequence has A there");
        assert_eq!(
            error("A9G"),
            "A9G lies outside the coding sequence, residues 1 to 7"
        );
        assert_eq!(
            error("GCC2GCT"),
            "GCC2GCT: the coding sequence has GCT there"
        );
        assert!(error("c.4A>C").contains("has G there"));
        assert!(error("c.22G>C").contains("outside"));
        assert!(error("c.0G>C").contains("outside"));
    }

    #[test]
    fn changes_are_counted() {
        let edit = |reference: &[u8], alternate: &[u8]| Edit {
            start: 0,
            reference: reference.to_vec(),
            alternate: alternate.to_vec(),
        };
        let two = edit(b"GCTAAAGGT", b"GCAAAATTT");
        assert_eq!((two.changed_bases(), two.changed_codons()), (3, 2));
        assert!(edit(b"GCT", b"GCT").is_identity());
        assert_eq!(edit(b"GCTAAA", b"GCT").changed_codons(), 1);
    }
}
