//! The reverse complement.

/// The reverse complement of `bases`. IUPAC codes turn into their complements (R to Y,
/// B to V and so on), the case is kept, and any other byte stays what it is.
pub fn revcomp(bases: &[u8]) -> Vec<u8> {
    bio::alphabets::dna::revcomp(bases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iupac_codes_have_complements() {
        assert_eq!(revcomp(b"ACGTRYSWKMBDHVN-."), b".-NBDHVKMWSRYACGT");
        assert_eq!(revcomp(b"aCg"), b"cGt");
        assert_eq!(revcomp(b""), b"");
    }

    proptest! {
        #[test]
        fn twice_is_the_identity(bases in "[ACGTRYSWKMBDHVNacgtn.-]{0,200}") {
            prop_assert_eq!(revcomp(&revcomp(bases.as_bytes())), bases.as_bytes());
        }
    }
}
