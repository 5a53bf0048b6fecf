//! Why an ALT was scored or not.

use std::fmt;

/// The fate of one ALT, written as one word into `CIS_STATUS`.
///
/// Where several apply, the first in the order of [`Status::ALL`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// `OK`: scored.
    Ok,
    /// `NO_ALT`: ALT is `.`; the record states no variant.
    NoAlt,
    /// `STAR`: ALT is `*`, a deletion that another record spells out.
    Star,
    /// `SYMBOLIC`: ALT is an identifier such as `<DEL>` or `<*>`; its bases are not given.
    Symbolic,
    /// `BREAKEND`: ALT joins this place to another, such as `C[chr:7[` or `.A`.
    Breakend,
    /// `NON_ACGT`: REF or ALT holds a letter other than A, C, G and T.
    NonAcgt,
    /// `NO_CONTIG`: neither the FASTA nor the alias table knows CHROM.
    NoContig,
    /// `OUT_OF_RANGE`: POS is 0, or REF reaches past the end of the contig.
    OutOfRange,
    /// `REF_MISMATCH`: REF differs from the FASTA.
    RefMismatch,
    /// `TOO_LONG`: the alleles do not fit whole into windows of equal length, because they
    /// are longer than half the context or the end of a linear contig is too near.
    TooLong,
}

impl Status {
    /// Every status, in order of precedence after [`Status::Ok`].
    pub const ALL: [Status; 10] = [
        Status::Ok,
        Status::NoAlt,
        Status::Star,
        Status::Symbolic,
        Status::Breakend,
        Status::NonAcgt,
        Status::NoContig,
        Status::OutOfRange,
        Status::RefMismatch,
        Status::TooLong,
    ];

    /// The word that stands for it in a VCF.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::NoAlt => "NO_ALT",
            Status::Star => "STAR",
            Status::Symbolic => "SYMBOLIC",
            Status::Breakend => "BREAKEND",
            Status::NonAcgt => "NON_ACGT",
            Status::NoContig => "NO_CONTIG",
            Status::OutOfRange => "OUT_OF_RANGE",
            Status::RefMismatch => "REF_MISMATCH",
            Status::TooLong => "TOO_LONG",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_fit_an_info_value() {
        let mut words: Vec<&str> = Status::ALL.iter().map(|s| s.word()).collect();
        for word in &words {
            assert!(word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        }
        words.sort();
        words.dedup();
        assert_eq!(words.len(), Status::ALL.len());
    }

    #[test]
    fn all_is_in_order() {
        assert!(Status::ALL.is_sorted());
        assert_eq!(format!("{:>4}", Status::Ok), "  OK");
    }
}
