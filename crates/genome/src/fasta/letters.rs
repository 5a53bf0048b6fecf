//! Which letters are bases, and what a file with others could be.

/// Value of each byte of a sequence line: its upper-case base, [`SKIP`] or [`BAD`].
pub(super) const BASES: [u8; 256] = {
    let mut table = [BAD; 256];
    let codes = b"ACGTRYSWKMBDHVN-.";
    let mut i = 0;
    while i < codes.len() {
        table[codes[i] as usize] = codes[i];
        table[codes[i].to_ascii_lowercase() as usize] = codes[i];
        i += 1;
    }
    table[b'U' as usize] = b'T';
    table[b'u' as usize] = b'T';
    table[b' ' as usize] = SKIP;
    table[b'\t' as usize] = SKIP;
    table[b'\r' as usize] = SKIP;
    table
};
/// Marks white space; greater than every base, as [`BAD`] is.
pub(super) const SKIP: u8 = 0x80;
/// Marks what is neither a base nor white space.
pub(super) const BAD: u8 = 0x81;

/// What a file with this letter among its bases could be.
pub(super) fn guess_from_letter(letter: u8) -> &'static str {
    match letter.to_ascii_uppercase() {
        b'E' | b'F' | b'I' | b'J' | b'L' | b'O' | b'P' | b'Q' | b'X' | b'Z' | b'*' => {
            "; is this a protein FASTA? Give the nucleotide sequence instead"
        }
        b'>' => "; a header must begin its line",
        b'+' | b'@' => "; is this a FASTQ file?",
        _ => "",
    }
}

/// What a file whose first line, without white space around it, is `text` could be.
pub(super) fn guess_from_start(text: &[u8]) -> &'static str {
    match text {
        [b'@', ..] => "; is this a FASTQ file?",
        [b'#', ..] => "; is this a VCF or GFF3 file?",
        _ if text.starts_with(b"LOCUS") => "; is this a GenBank file?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_bases_white_space_or_wrong() {
        for letter in 0..=255u8 {
            let expected = match letter.to_ascii_uppercase() {
                b'U' => b'T',
                base if b"ACGTRYSWKMBDHVN-.".contains(&base) => base,
                b' ' | b'\t' | b'\r' => SKIP,
                _ => BAD,
            };
            assert_eq!(BASES[usize::from(letter)], expected);
        }
    }
}
