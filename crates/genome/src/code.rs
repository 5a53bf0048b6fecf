//! Genetic codes of prokaryotes (NCBI translation tables).

/// How codons are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum GeneticCode {
    /// Table 4: Mycoplasma, Spiroplasma; TGA is Trp.
    Four,
    /// Table 11: most bacteria and archaea.
    #[default]
    Eleven,
    /// Table 25: SR1 and Gracilibacteria; TGA is Gly.
    TwentyFive,
}

/// Amino acids of table 11 by codon, first base slowest, bases in the order T, C, A, G.
const ELEVEN: &[u8; 64] = b"FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG";
/// Index of TGA.
const TGA: usize = 14;

impl GeneticCode {
    /// The code of an NCBI table; table 1 reads codons as 11 does.
    pub fn from_table(table: u32) -> Option<Self> {
        match table {
            4 => Some(Self::Four),
            1 | 11 => Some(Self::Eleven),
            25 => Some(Self::TwentyFive),
            _ => None,
        }
    }

    /// The number of the table.
    pub fn table(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Eleven => 11,
            Self::TwentyFive => 25,
        }
    }

    /// The amino acid of an upper-case codon: `*` for a stop, `X` where a base is not one of
    /// A, C, G and T or there are not three.
    pub fn amino_acid(self, codon: &[u8]) -> u8 {
        let Some(index) = codon_index(codon) else {
            return b'X';
        };
        match (self, index) {
            (Self::Four, TGA) => b'W',
            (Self::TwentyFive, TGA) => b'G',
            _ => ELEVEN[index],
        }
    }

    /// Whether the codon ends a protein.
    pub fn is_stop(self, codon: &[u8]) -> bool {
        self.amino_acid(codon) == b'*'
    }

    /// Whether the codon may begin a protein, as Met.
    pub fn is_start(self, codon: &[u8]) -> bool {
        match self {
            Self::Four => matches!(
                codon,
                b"TTA" | b"TTG" | b"CTG" | b"ATT" | b"ATC" | b"ATA" | b"ATG" | b"GTG"
            ),
            Self::Eleven => matches!(
                codon,
                b"TTG" | b"CTG" | b"ATT" | b"ATC" | b"ATA" | b"ATG" | b"GTG"
            ),
            Self::TwentyFive => matches!(codon, b"TTG" | b"ATG" | b"GTG"),
        }
    }

    /// Amino acids of whole codons; what is left over at the end is not read.
    pub fn translate(self, bases: &[u8]) -> Vec<u8> {
        let codons = bases.chunks_exact(3);
        codons.map(|codon| self.amino_acid(codon)).collect()
    }

    /// Codons that are read as `amino_acid`.
    pub fn codons(self, amino_acid: u8) -> impl Iterator<Item = [u8; 3]> {
        let all = (0..64).map(|i| [b"TCAG"[i / 16], b"TCAG"[i / 4 % 4], b"TCAG"[i % 4]]);
        all.filter(move |codon| self.amino_acid(codon) == amino_acid)
    }
}

fn codon_index(codon: &[u8]) -> Option<usize> {
    let digit = |base: &u8| b"TCAG".iter().position(|known| known == base);
    match codon {
        [a, b, c] => Some(16 * digit(a)? + 4 * digit(b)? + digit(c)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GeneticCode::{Eleven, Four, TwentyFive};

    #[test]
    fn codons_are_read_by_their_table() {
        assert_eq!(Eleven.translate(b"ATGTGGTGATAATAGNCCGG"), b"MW***X");
        assert_eq!(Four.translate(b"TGATAATAG"), b"W**");
        assert_eq!(TwentyFive.translate(b"TGATAATAG"), b"G**");
        assert_eq!(Eleven.amino_acid(b"AT"), b'X');
        assert!(Four.is_start(b"TTA") && !Eleven.is_start(b"TTA"));
        assert!(Eleven.is_start(b"CTG") && !TwentyFive.is_start(b"CTG"));
    }

    #[test]
    fn tables_have_their_numbers() {
        for table in 0..40 {
            let code = GeneticCode::from_table(table);
            assert_eq!(code.is_some(), [1, 4, 11, 25].contains(&table));
            if let Some(code) = code.filter(|_| table != 1) {
                assert_eq!(code.table(), table);
            }
        }
    }

    #[test]
    fn every_codon_belongs_to_one_amino_acid() {
        for (code, stops) in [(Four, 2), (Eleven, 3), (TwentyFive, 2)] {
            let letters = b"ACDEFGHIKLMNPQRSTVWY*";
            let count: usize = letters.iter().map(|&aa| code.codons(aa).count()).sum();
            assert_eq!((count, code.codons(b'*').count()), (64, stops));
        }
    }
}
