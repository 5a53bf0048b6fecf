//! What is printed beside the model's scores: substitution matrices and counts know no gene.

use cistron_genome::code::GeneticCode;
use cistron_variant::dms::edits::Edit;

use crate::markov::Markov;

/// Letters of [`BLOSUM62`].
const LETTERS: &[u8; 20] = b"ARNDCQEGHILKMFPSTWYV";

/// Henikoff and Henikoff 1992, in half bits.
#[rustfmt::skip]
const BLOSUM62: [[i8; 20]; 20] = [
    [4, -1, -2, -2, 0, -1, -1, 0, -2, -1, -1, -1, -1, -2, -1, 1, 0, -3, -2, 0],
    [-1, 5, 0, -2, -3, 1, 0, -2, 0, -3, -2, 2, -1, -3, -2, -1, -1, -3, -2, -3],
    [-2, 0, 6, 1, -3, 0, 0, 0, 1, -3, -3, 0, -2, -3, -2, 1, 0, -4, -2, -3],
    [-2, -2, 1, 6, -3, 0, 2, -1, -1, -3, -4, -1, -3, -3, -1, 0, -1, -4, -3, -3],
    [0, -3, -3, -3, 9, -3, -4, -3, -3, -1, -1, -3, -1, -2, -3, -1, -1, -2, -2, -1],
    [-1, 1, 0, 0, -3, 5, 2, -2, 0, -3, -2, 1, 0, -3, -1, 0, -1, -2, -1, -2],
    [-1, 0, 0, 2, -4, 2, 5, -2, 0, -3, -3, 1, -2, -3, -1, 0, -1, -3, -2, -2],
    [0, -2, 0, -1, -3, -2, -2, 6, -2, -4, -4, -2, -3, -3, -2, 0, -2, -2, -3, -3],
    [-2, 0, 1, -1, -3, 0, 0, -2, 8, -3, -3, -1, -2, -1, -2, -1, -2, -2, 2, -3],
    [-1, -3, -3, -3, -1, -3, -3, -4, -3, 4, 2, -3, 1, 0, -3, -2, -1, -3, -1, 3],
    [-1, -2, -3, -4, -1, -2, -3, -4, -3, 2, 4, -2, 2, 0, -3, -2, -1, -2, -1, 1],
    [-1, 2, 0, -1, -3, 1, 1, -2, -1, -3, -2, 5, -1, -3, -1, 0, -1, -3, -2, -2],
    [-1, -1, -2, -3, -1, 0, -2, -3, -2, 1, 2, -1, 5, 0, -2, -1, -1, -1, -1, 1],
    [-2, -3, -3, -3, -2, -3, -3, -3, -1, 0, 0, -3, 0, 6, -4, -2, -2, 1, 3, -1],
    [-1, -2, -2, -1, -3, -1, -1, -2, -2, -3, -3, -1, -2, -4, 7, -1, -1, -4, -3, -2],
    [1, -1, 1, 0, -1, 0, 0, 0, -1, -2, -2, 0, -1, -2, -1, 4, 1, -3, -2, -2],
    [0, -1, 0, -1, -1, -1, -1, -2, -2, -1, -1, -1, -1, -2, -1, 1, 5, -2, -2, 0],
    [-3, -3, -4, -4, -2, -2, -3, -2, -2, -3, -2, -3, -1, 1, -4, -3, -2, 11, 2, -3],
    [-2, -2, -2, -3, -2, -1, -2, -3, 2, -1, -1, -2, -1, 3, -3, -2, -2, 2, 7, -1],
    [0, -3, -3, -3, -1, -2, -2, -3, -3, 3, 1, -2, 1, -1, -2, -2, 0, -3, -1, 4],
];

/// A residue against a stop or nothing.
const WORST: f64 = -4.0;

/// Hydropathy of the letters (Kyte and Doolittle 1982).
const HYDROPATHY: [f64; 20] = [
    1.8, -4.5, -3.5, -3.5, 2.5, -3.5, -3.5, -0.4, -3.2, 4.5, 3.8, -3.9, 1.9, 2.8, -1.6, -0.8, -0.7,
    -0.9, -1.3, 4.2,
];

/// The range of hydropathy, which a stop or a missing residue counts as.
const RANGE: f64 = 9.0;

/// The baselines of one variant; higher means fitter in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baselines {
    /// Sum of BLOSUM62 over the residues that change.
    pub blosum62: f64,
    /// Codons that change, as a negative number.
    pub codons: f64,
    /// Bases that change, as a negative number.
    pub bases: f64,
    /// Change of hydropathy, summed over residues, as a negative number.
    pub hydrophobicity: f64,
}

impl Baselines {
    /// Those of one way to write a variant.
    pub fn of(edit: &Edit, code: GeneticCode) -> Self {
        let (before, after) = (
            code.translate(&edit.reference),
            code.translate(&edit.alternate),
        );
        let pairs: Vec<(u8, u8)> = match before.len() == after.len() {
            true => before.iter().copied().zip(after).collect(),
            // Residues have no partners: each of the longer side counts as lost.
            false => {
                let longer = if before.len() > after.len() {
                    before
                } else {
                    after
                };
                longer.into_iter().map(|letter| (letter, b'*')).collect()
            }
        };
        let changed: Vec<&(u8, u8)> = pairs.iter().filter(|(a, b)| a != b).collect();
        let blosum62 = match changed.is_empty() {
            true => pairs.first().map_or(0.0, |(a, b)| similarity(*a, *b)),
            false => changed.iter().map(|(a, b)| similarity(*a, *b)).sum(),
        };
        let hydrophobicity: f64 = changed.iter().map(|(a, b)| hydropathy(*a, *b)).sum();
        Self {
            blosum62,
            codons: -(edit.changed_codons() as f64),
            bases: -(edit.changed_bases() as f64),
            hydrophobicity: -hydrophobicity,
        }
    }
}

fn place(letter: u8) -> Option<usize> {
    LETTERS.iter().position(|known| *known == letter)
}

fn similarity(a: u8, b: u8) -> f64 {
    match (place(a), place(b)) {
        (Some(a), Some(b)) => f64::from(BLOSUM62[a][b]),
        _ if a == b => 1.0,
        _ => WORST,
    }
}

fn hydropathy(a: u8, b: u8) -> f64 {
    match (place(a), place(b)) {
        (Some(a), Some(b)) => (HYDROPATHY[a] - HYDROPATHY[b]).abs(),
        _ => RANGE,
    }
}

/// Log-likelihood under a Markov chain of the sequence with an edit less that without, in nats;
/// `at` is the index of the coding sequence in `bases`.
pub fn markov(chain: &Markov, bases: &[u8], at: usize, edit: &Edit) -> f64 {
    let start = at + edit.start;
    let end = start + edit.reference.len();
    let from = start.saturating_sub(chain.order());
    let to = (end + chain.order()).min(bases.len());
    let read = |allele: &[u8]| {
        let whole = [&bases[from..start], allele, &bases[end..to]].concat();
        chain.bits(&whole, start - from).0
    };
    (read(&edit.reference) - read(&edit.alternate)) * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(reference: &[u8], alternate: &[u8]) -> Edit {
        Edit {
            start: 3,
            reference: reference.to_vec(),
            alternate: alternate.to_vec(),
        }
    }

    #[test]
    fn the_matrix_is_symmetric() {
        for a in LETTERS {
            for b in LETTERS {
                assert_eq!(similarity(*a, *b), similarity(*b, *a));
            }
            assert!(similarity(*a, *a) >= 4.0);
        }
        assert_eq!(similarity(b'W', b'W'), 11.0);
        assert_eq!(similarity(b'I', b'V'), 3.0);
    }

    #[test]
    fn residues_and_codons_are_counted() {
        let code = GeneticCode::Eleven;
        // Ala to Asp; Lys stays; Gly to Ser.
        let two = Baselines::of(&edit(b"GCTAAAGGT", b"GACAAAAGT"), code);
        assert_eq!((two.blosum62, two.codons, two.bases), (-2.0, -2.0, -3.0));
        assert!((two.hydrophobicity + 5.3 + 0.4).abs() < 1e-12);
        let silent = Baselines::of(&edit(b"GCT", b"GCC"), code);
        assert_eq!(
            (silent.blosum62, silent.codons, silent.hydrophobicity),
            (4.0, -1.0, 0.0)
        );
        let stop = Baselines::of(&edit(b"TGG", b"TAG"), code);
        assert_eq!((stop.blosum62, stop.hydrophobicity), (-4.0, -9.0));
        let lost = Baselines::of(&edit(b"GCT", b""), code);
        assert_eq!((lost.blosum62, lost.codons), (-4.0, -1.0));
    }

    #[test]
    fn a_chain_prefers_what_it_has_seen() {
        let mut chain = Markov::new(3);
        chain.observe(&b"ACGT".repeat(200));
        let bases = b"ACGTACGTACGTACGT";
        let worse = markov(&chain, bases, 3, &edit(b"GTA", b"GAA"));
        assert!(worse < -2.0, "{worse}");
        assert_eq!(markov(&chain, bases, 3, &edit(b"GTA", b"GTA")), 0.0);
        let back = Edit {
            start: 0,
            ..edit(b"ACG", b"AAG")
        };
        assert!(markov(&chain, bases, 0, &back) < 0.0);
    }
}
