//! What is known of amino acids before any measurement.

use tch::{Device, Tensor};

/// Letters in the order of their numbers; a stop codon may follow as number 20.
pub const AMINO_ACIDS: &[u8; 20] = b"ACDEFGHIKLMNPQRSTVWY";

/// Properties of each amino acid: 20 substitution scores and 7 physical ones.
pub const PROPERTIES: i64 = 27;

/// BLOSUM62 (Henikoff and Henikoff 1992) in the order of [`AMINO_ACIDS`].
#[rustfmt::skip]
const BLOSUM62: [[i8; 20]; 20] = [
    [ 4,  0, -2, -1, -2,  0, -2, -1, -1, -1, -1, -2, -1, -1, -1,  1,  0,  0, -3, -2],
    [ 0,  9, -3, -4, -2, -3, -3, -1, -3, -1, -1, -3, -3, -3, -3, -1, -1, -1, -2, -2],
    [-2, -3,  6,  2, -3, -1, -1, -3, -1, -4, -3,  1, -1,  0, -2,  0, -1, -3, -4, -3],
    [-1, -4,  2,  5, -3, -2,  0, -3,  1, -3, -2,  0, -1,  2,  0,  0, -1, -2, -3, -2],
    [-2, -2, -3, -3,  6, -3, -1,  0, -3,  0,  0, -3, -4, -3, -3, -2, -2, -1,  1,  3],
    [ 0, -3, -1, -2, -3,  6, -2, -4, -2, -4, -3,  0, -2, -2, -2,  0, -2, -3, -2, -3],
    [-2, -3, -1,  0, -1, -2,  8, -3, -1, -3, -2,  1, -2,  0,  0, -1, -2, -3, -2,  2],
    [-1, -1, -3, -3,  0, -4, -3,  4, -3,  2,  1, -3, -3, -3, -3, -2, -1,  3, -3, -1],
    [-1, -3, -1,  1, -3, -2, -1, -3,  5, -2, -1,  0, -1,  1,  2,  0, -1, -2, -3, -2],
    [-1, -1, -4, -3,  0, -4, -3,  2, -2,  4,  2, -3, -3, -2, -2, -2, -1,  1, -2, -1],
    [-1, -1, -3, -2,  0, -3, -2,  1, -1,  2,  5, -2, -2,  0, -1, -1, -1,  1, -1, -1],
    [-2, -3,  1,  0, -3,  0,  1, -3,  0, -3, -2,  6, -2,  0,  0,  1,  0, -3, -4, -2],
    [-1, -3, -1, -1, -4, -2, -2, -3, -1, -3, -2, -2,  7, -1, -2, -1, -1, -2, -4, -3],
    [-1, -3,  0,  2, -3, -2,  0, -3,  1, -2,  0,  0, -1,  5,  1,  0, -1, -2, -2, -1],
    [-1, -3, -2,  0, -3, -2,  0, -3,  2, -2, -1,  0, -2,  1,  5, -1, -1, -3, -3, -2],
    [ 1, -1,  0,  0, -2,  0, -1, -2,  0, -2, -1,  1, -1,  0, -1,  4,  1, -2, -3, -2],
    [ 0, -1, -1, -1, -2, -2, -2, -1, -1, -1, -1,  0, -1, -1, -1,  1,  5,  0, -2, -2],
    [ 0, -1, -3, -2, -1, -3, -3,  3, -2,  1,  1, -3, -2, -2, -3, -2,  0,  4, -3, -1],
    [-3, -2, -4, -3,  1, -2, -2, -3, -3, -2, -1, -4, -4, -2, -3, -3, -2, -3, 11,  2],
    [-2, -2, -3, -2,  3, -3,  2, -1, -2, -1, -1, -2, -3, -1, -2, -2, -2, -1,  2,  7],
];

/// Hydropathy (Kyte and Doolittle 1982), volume in cubic ångström (Zamyatnin 1972), charge at pH 7.
#[rustfmt::skip]
const PHYSICAL: [[f32; 3]; 20] = [
    [1.8, 88.6, 0.0],
    [2.5, 108.5, 0.0],
    [-3.5, 111.1, -1.0],
    [-3.5, 138.4, -1.0],
    [2.8, 189.9, 0.0],
    [-0.4, 60.1, 0.0],
    [-3.2, 153.2, 0.1],
    [4.5, 166.7, 0.0],
    [-3.9, 168.6, 1.0],
    [3.8, 166.7, 0.0],
    [1.9, 162.9, 0.0],
    [-3.5, 114.1, 0.0],
    [-1.6, 112.7, 0.0],
    [-3.5, 143.8, 0.0],
    [-4.5, 173.4, 1.0],
    [-0.8, 89.0, 0.0],
    [-0.7, 116.1, 0.0],
    [4.2, 140.0, 0.0],
    [-0.9, 227.8, 0.0],
    [-1.3, 193.6, 0.0],
];

/// Substitution scores of two amino acids by their numbers.
pub fn blosum62(from: usize, to: usize) -> i8 {
    BLOSUM62[from][to]
}

/// The properties of `letters` numbers, 20 or 21, about as large as one: `[letters, PROPERTIES]`.
/// A stop codon has none.
pub(super) fn table(letters: i64, device: Device) -> Tensor {
    let mut values = Vec::new();
    for (i, letter) in AMINO_ACIDS.iter().enumerate() {
        values.extend(BLOSUM62[i].iter().map(|&score| f32::from(score) / 3.0));
        let [hydropathy, volume, charge] = PHYSICAL[i];
        values.extend([hydropathy / 3.0, (volume - 140.0) / 42.0, 2.0 * charge]);
        let one_of = |letters: &[u8]| f32::from(u8::from(letters.contains(letter)));
        values.extend([
            2.0 * one_of(b"P"),
            1.5 * one_of(b"G"),
            1.2 * one_of(b"FHWY"),
            1.2 * one_of(b"ITV"),
        ]);
    }
    values.resize((letters * PROPERTIES) as usize, 0.0);
    Tensor::from_slice(&values)
        .reshape([letters, PROPERTIES])
        .to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_symmetric_and_highest_for_the_same() {
        for i in 0..20 {
            for j in 0..20 {
                assert_eq!(blosum62(i, j), blosum62(j, i));
                assert!(i == j || blosum62(i, j) < blosum62(i, i));
            }
        }
        let of = |letter: u8| AMINO_ACIDS.iter().position(|&l| l == letter).unwrap();
        assert_eq!(blosum62(of(b'W'), of(b'W')), 11);
        assert_eq!(blosum62(of(b'I'), of(b'V')), 3);
    }
}
