//! Bases as model tokens.

use serde::{Deserialize, Serialize};

/// How bases become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alphabet {
    /// Upper-case ASCII values, 256 tokens; the tokens of byte-level models.
    #[default]
    Bytes,
    /// A 0, C 1, G 2, T 3, any other code 4, and three marks: eight tokens.
    Dna,
}

/// Token of each byte in [`Alphabet::Dna`].
const DNA_TOKENS: [u8; 256] = {
    let mut tokens = [4; 256];
    let mut token = 0;
    while token < 4 {
        let base = b"ACGT"[token];
        tokens[base as usize] = token as u8;
        tokens[base.to_ascii_lowercase() as usize] = token as u8;
        token += 1;
    }
    tokens[b'U' as usize] = 3;
    tokens[b'u' as usize] = 3;
    tokens
};

/// Letter of each token in [`Alphabet::Dna`].
const DNA_LETTERS: &[u8; 8] = b"ACGTN^$_";

impl Alphabet {
    /// Number of tokens.
    pub fn vocab_size(self) -> usize {
        match self {
            Alphabet::Bytes => 256,
            Alphabet::Dna => 8,
        }
    }

    /// Token of one base, given as ASCII in either case.
    pub fn encode(self, base: u8) -> u8 {
        match self {
            Alphabet::Bytes => base.to_ascii_uppercase(),
            Alphabet::Dna => DNA_TOKENS[usize::from(base)],
        }
    }

    /// Appends the tokens of `bases` to `tokens`.
    pub fn encode_into(self, bases: &[u8], tokens: &mut Vec<u8>) {
        tokens.extend(bases.iter().map(|&base| self.encode(base)));
    }

    /// The base of a token as ASCII. In [`Alphabet::Dna`] the marks read `^` (beginning),
    /// `$` (end) and `_` (padding), and a value outside the alphabet reads `N`.
    pub fn decode(self, token: u8) -> u8 {
        match self {
            Alphabet::Bytes => token,
            Alphabet::Dna => *DNA_LETTERS.get(usize::from(token)).unwrap_or(&b'N'),
        }
    }

    /// Tokens of A, C, G and T, in this order.
    pub fn base_tokens(self) -> [u8; 4] {
        b"ACGT".map(|base| self.encode(base))
    }

    /// Token that begins a sequence.
    pub fn bos(self) -> u8 {
        match self {
            Alphabet::Bytes => 254,
            Alphabet::Dna => 5,
        }
    }

    /// Token that ends a sequence.
    pub fn eos(self) -> u8 {
        match self {
            Alphabet::Bytes => 255,
            Alphabet::Dna => 6,
        }
    }

    /// Token that fills unused places.
    pub fn pad(self) -> u8 {
        match self {
            Alphabet::Bytes => 0,
            Alphabet::Dna => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dna_has_one_token_for_every_other_code() {
        let mut tokens = Vec::new();
        Alphabet::Dna.encode_into(b"ACGTacgtUuNRYSWKMBDHV-.", &mut tokens);
        assert_eq!(tokens[..10], [0, 1, 2, 3, 0, 1, 2, 3, 3, 3]);
        assert!(tokens[10..].iter().all(|&token| token == 4));
        assert_eq!(Alphabet::Dna.base_tokens(), [0, 1, 2, 3]);
    }

    #[test]
    fn bytes_are_upper_case_ascii() {
        let mut tokens = Vec::new();
        Alphabet::Bytes.encode_into(b"acgtnR", &mut tokens);
        assert_eq!(tokens, b"ACGTNR");
        assert_eq!(Alphabet::Bytes.base_tokens(), *b"ACGT");
    }

    #[test]
    fn marks_lie_inside_the_vocabulary_apart_from_bases() {
        for alphabet in [Alphabet::Bytes, Alphabet::Dna] {
            let marks = [alphabet.bos(), alphabet.eos(), alphabet.pad()];
            for (i, mark) in marks.iter().enumerate() {
                assert!(usize::from(*mark) < alphabet.vocab_size());
                assert!(!marks[..i].contains(mark));
                assert!(!b"ACGTN".map(|base| alphabet.encode(base)).contains(mark));
            }
        }
    }

    #[test]
    fn decoding_undoes_encoding() {
        for alphabet in [Alphabet::Bytes, Alphabet::Dna] {
            for base in *b"ACGTN" {
                assert_eq!(alphabet.decode(alphabet.encode(base)), base);
            }
        }
        assert_eq!(Alphabet::Dna.decode(200), b'N');
    }

    #[test]
    fn names_are_lower_case_in_files() {
        assert_eq!(serde_json::to_string(&Alphabet::Dna).unwrap(), "\"dna\"");
        let read: Alphabet = serde_json::from_str("\"bytes\"").unwrap();
        assert_eq!(read, Alphabet::Bytes);
    }
}
