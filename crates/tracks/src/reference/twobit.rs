//! The 2bit format of UCSC: four bases a byte, and a list of the stretches that are N.

use std::path::Path;

use cistron_genome::fasta::Genome;

use super::write_whole;
use crate::TrackError;

const SIGNATURE: u32 = 0x1A41_2743;

/// Writes the genome to `path`. Every code but A, C, G and T becomes N, as the format has no
/// other; contigs without bases are left out.
///
/// # Errors
/// A contig name has more than 255 bytes, the file would pass 4 GiB, or it cannot be written.
pub fn write_twobit(path: &Path, genome: &Genome) -> Result<(), TrackError> {
    let contigs: Vec<_> = genome
        .contigs
        .iter()
        .filter(|c| !c.bases.is_empty())
        .collect();
    let records: Vec<Vec<u8>> = contigs.iter().map(|contig| record(&contig.bases)).collect();
    let table: usize = contigs.iter().map(|c| c.name.as_str().len() + 5).sum();
    let total = 16 + table + records.iter().map(Vec::len).sum::<usize>();
    let too_large = |reason: &str| TrackError::Encode {
        path: path.to_path_buf(),
        reason: reason.to_owned(),
    };
    if u32::try_from(total).is_err() {
        return Err(too_large("a 2bit file cannot pass 4 GiB"));
    }
    let mut bytes = Vec::with_capacity(total);
    for word in [SIGNATURE, 0, contigs.len() as u32, 0] {
        bytes.extend(word.to_le_bytes());
    }
    let mut offset = (16 + table) as u32;
    for (contig, record) in contigs.iter().zip(&records) {
        let name = contig.name.as_str().as_bytes();
        let length = u8::try_from(name.len())
            .map_err(|_| too_large("a 2bit file cannot hold a contig name of 256 bytes"))?;
        bytes.push(length);
        bytes.extend(name);
        bytes.extend(offset.to_le_bytes());
        offset += record.len() as u32;
    }
    for record in records {
        bytes.extend(record);
    }
    write_whole(path, &bytes)
}

fn record(bases: &[u8]) -> Vec<u8> {
    let code = |base: &u8| match base {
        b'T' => Some(0),
        b'C' => Some(1),
        b'A' => Some(2),
        b'G' => Some(3),
        _ => None,
    };
    let (mut starts, mut sizes) = (Vec::new(), Vec::new());
    let mut at = 0;
    for stretch in bases.chunk_by(|a, b| code(a).is_none() == code(b).is_none()) {
        if code(&stretch[0]).is_none() {
            starts.push(at);
            sizes.push(stretch.len() as u32);
        }
        at += stretch.len() as u32;
    }
    let words = [bases.len() as u32, starts.len() as u32]
        .into_iter()
        .chain(starts)
        .chain(sizes)
        // No masked stretches, and a reserved word.
        .chain([0, 0]);
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.extend(bases.chunks(4).map(|four| {
        (0..4).fold(0, |byte, i| {
            byte << 2 | four.get(i).and_then(code).unwrap_or(0)
        })
    }));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::genome;

    /// The layout of the specification, byte by byte.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let genome = genome(&[("c", b"ACGTNNRA"), ("dd", b"G")]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.2bit");
        write_twobit(&path, &genome).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(4), word(8), word(12)], [SIGNATURE, 0, 2, 0]);
        assert_eq!((bytes[16], bytes[17], word(18)), (1, b'c', 29));
        assert_eq!((bytes[22], &bytes[23..25], word(25)), (2, &b"dd"[..], 55));
        // Length, one stretch of N from 4, three long, no mask, reserved.
        assert_eq!([29, 33, 37, 41, 45, 49].map(word), [8, 1, 4, 3, 0, 0]);
        assert_eq!(bytes[53..55], [0b10_01_11_00, 0b00_00_00_10]);
        assert_eq!([55, 59, 63, 67].map(word), [1, 0, 0, 0]);
        assert_eq!(bytes[71..], [0b11_00_00_00]);
    }
}
