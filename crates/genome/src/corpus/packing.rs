//! Four bases a byte.

/// Letters of the codes 0 to 3.
const LETTERS: &[u8; 4] = b"ACGT";

/// Code of each letter; [`OTHER`] for those that are not A, C, G or T.
const CODES: [u8; 256] = {
    let mut codes = [OTHER; 256];
    let mut code = 0;
    while code < 4 {
        codes[LETTERS[code] as usize] = code as u8;
        code += 1;
    }
    codes
};
/// Marks a letter to be kept as a run; its two lowest bits are zero.
const OTHER: u8 = 0x80;

/// The four letters of each byte.
const UNPACKED: [[u8; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 4 {
            table[byte][i] = LETTERS[(byte >> (2 * i)) & 3];
            i += 1;
        }
        byte += 1;
    }
    table
};

/// How many of the four bases of each byte are G or C.
const GC: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 4 {
            let letter = UNPACKED[byte][i];
            table[byte] += (letter == b'G' || letter == b'C') as u8;
            i += 1;
        }
        byte += 1;
    }
    table
};

/// Appends `bases` (upper-case ASCII) to `packed`; the last byte is filled up with zeros.
/// Returns whether some letter was not A, C, G or T; such letters are packed as zeros.
pub(super) fn pack(bases: &[u8], packed: &mut Vec<u8>) -> bool {
    let mut seen = 0;
    let mut pack_four = |four: [u8; 4]| {
        let [a, b, c, d] = four.map(|base| CODES[usize::from(base)]);
        seen |= a | b | c | d;
        (a & 3) | (b & 3) << 2 | (c & 3) << 4 | d << 6
    };
    let (fours, rest) = bases.as_chunks();
    packed.extend(fours.iter().map(|four| pack_four(*four)));
    if !rest.is_empty() {
        let mut four = *b"AAAA";
        four[..rest.len()].copy_from_slice(rest);
        packed.push(pack_four(four));
    }
    seen & OTHER != 0
}

/// Whether the letter fits in two bits.
pub(super) fn is_packable(base: u8) -> bool {
    CODES[usize::from(base)] != OTHER
}

/// Appends the bases `start..end` of `packed`, counted four to a byte, as ASCII.
pub(super) fn unpack(packed: &[u8], start: usize, end: usize, bases: &mut Vec<u8>) {
    if start >= end {
        return;
    }
    let first = start / 4;
    let bytes = &packed[first..end.div_ceil(4)];
    let kept = bases.len();
    bases.reserve(bytes.len() * 4);
    bases.extend(bytes.iter().flat_map(|byte| UNPACKED[usize::from(*byte)]));
    bases.truncate(kept + end - first * 4);
    bases.drain(kept..kept + start - first * 4);
}

/// Number of G and C among packed bases.
pub(super) fn count_gc(packed: &[u8]) -> u64 {
    packed
        .chunks(255 / 4)
        .map(|part| u64::from(part.iter().map(|byte| GC[usize::from(*byte)]).sum::<u8>()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_base_has_the_lowest_bits() {
        let mut packed = Vec::new();
        assert!(!pack(b"ACGTC", &mut packed));
        assert_eq!(packed, [0b11_10_01_00, 0b01]);
    }

    #[test]
    fn other_letters_are_flagged_and_zero() {
        for letter in *b"RYSWKMBDHVN-.acgtU" {
            for i in 0..4 {
                let mut bases = *b"TTTT";
                bases[i] = letter;
                let mut packed = Vec::new();
                assert!(pack(&bases, &mut packed), "{letter}");
                assert_eq!(packed, [!(3 << (2 * i))]);
            }
        }
    }

    proptest! {
        #[test]
        fn unpacking_undoes_packing(bases in "[ACGT]{0,70}", a in 0usize..71, b in 0usize..71) {
            let mut packed = Vec::new();
            pack(bases.as_bytes(), &mut packed);
            let (start, end) = (a.min(b).min(bases.len()), a.max(b).min(bases.len()));
            let mut unpacked = b"x".to_vec();
            unpack(&packed, start, end, &mut unpacked);
            prop_assert_eq!(&unpacked[1..], &bases.as_bytes()[start..end]);
            prop_assert_eq!(unpacked[0], b'x');
        }

        #[test]
        fn gc_is_counted(bases in "[ACGT]{0,600}") {
            let mut packed = Vec::new();
            pack(bases.as_bytes(), &mut packed);
            let expected = bases.bytes().filter(|base| b"GC".contains(base)).count();
            prop_assert_eq!(count_gc(&packed), expected as u64);
        }
    }
}
