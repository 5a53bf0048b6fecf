//! The letters of a table's sequences.

use cistron_model::lyra::properties::AMINO_ACIDS;
use serde::{Deserialize, Serialize};

/// What sequences are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Molecule {
    /// The 20 amino acids.
    Protein,
    /// A, C, G, T.
    Dna,
    /// A, C, G, U.
    Rna,
}

/// Letters and their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alphabet {
    /// What sequences are made of.
    pub molecule: Molecule,
    /// Whether `*` is a letter, as number 20: some tables hold stop codons.
    #[serde(default)]
    pub stop: bool,
}

impl Alphabet {
    /// The letters by their numbers.
    pub fn letters(self) -> &'static [u8] {
        match (self.molecule, self.stop) {
            (Molecule::Protein, false) => AMINO_ACIDS,
            (Molecule::Protein, true) => b"ACDEFGHIKLMNPQRSTVWY*",
            (Molecule::Dna, _) => b"ACGT",
            (Molecule::Rna, _) => b"ACGU",
        }
    }

    /// Number of letters.
    pub fn size(self) -> usize {
        self.letters().len()
    }

    /// The number of a letter of either case.
    pub fn encode(self, letter: u8) -> Option<u8> {
        let letter = letter.to_ascii_uppercase();
        let found = self.letters().iter().position(|&known| known == letter);
        found.map(|number| number as u8)
    }

    /// The numbers of a sequence, or the first letter that has none, with its place from 1.
    ///
    /// # Errors
    ///
    /// The place and the letter.
    pub fn encode_all(self, sequence: &[u8]) -> Result<Vec<u8>, (usize, char)> {
        let encode =
            |(i, &letter): (usize, &u8)| self.encode(letter).ok_or((i + 1, char::from(letter)));
        sequence.iter().enumerate().map(encode).collect()
    }

    /// The letter of a number.
    pub fn decode(self, number: u8) -> char {
        char::from(
            self.letters()
                .get(usize::from(number))
                .copied()
                .unwrap_or(b'?'),
        )
    }

    /// The text of a sequence of numbers.
    pub fn text(self, numbers: &[u8]) -> String {
        numbers.iter().map(|&number| self.decode(number)).collect()
    }

    /// What `sequences` are made of: DNA when they have no letter but A, C, G, T and N, RNA when no
    /// other but A, C, G, U and N, else protein, with a stop when there is one.
    pub fn guess<'a>(sequences: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut seen = [false; 256];
        for letter in sequences.into_iter().flatten() {
            seen[usize::from(letter.to_ascii_uppercase())] = true;
        }
        let only = |letters: &[u8]| {
            (0..=u8::MAX)
                .filter(|&letter| seen[usize::from(letter)])
                .all(|letter| letters.contains(&letter))
        };
        let molecule = if only(b"ACGTN") {
            Molecule::Dna
        } else if only(b"ACGUN") {
            Molecule::Rna
        } else {
            Molecule::Protein
        };
        let stop = molecule == Molecule::Protein && seen[usize::from(b'*')];
        Self { molecule, stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_say_what_they_are() {
        let guess = |text: &[u8]| Alphabet::guess([text]);
        assert_eq!(guess(b"ACGTNacgt").molecule, Molecule::Dna);
        assert_eq!(guess(b"ACGU").molecule, Molecule::Rna);
        assert_eq!(guess(b"MKV").molecule, Molecule::Protein);
        assert!(guess(b"MKV*").stop && !guess(b"MKV").stop);
        assert_eq!(guess(b"MK*").encode_all(b"mk*"), Ok(vec![10, 8, 20]));
        assert_eq!(guess(b"MK").encode_all(b"MX"), Err((2, 'X')));
    }
}
