//! How often a host uses each codon.

use cistron_genome::code::GeneticCode;
use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;

/// Codons of the 4,295 CDS of one part and no pseudogene of *E. coli* K-12 MG1655 (NC_000913.3),
/// first base slowest, bases in the order T, C, A, G.
const ECOLI: [u64; 64] = [
    29681, 22097, 18384, 18234, 11196, 11465, 9356, 11886, 21341, 16268, 2752, 305, 6838, 8621,
    1241, 20290, 14635, 14888, 5175, 71053, 9270, 7259, 11214, 31254, 17154, 12969, 20491, 38635,
    28222, 29557, 4643, 7108, 40685, 33709, 5518, 37210, 11761, 31299, 9150, 19168, 23156, 28718,
    44911, 13626, 11522, 21389, 2596, 1436, 24376, 20440, 14521, 35181, 20311, 34271, 26877, 45348,
    42658, 25499, 53032, 23781, 33001, 39755, 10393, 14629,
];

/// Codon counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    counts: [u64; 64],
    /// Whose they are.
    pub host: String,
}

impl Usage {
    /// Those of *Escherichia coli* K-12 MG1655.
    pub fn ecoli() -> Self {
        Self {
            counts: ECOLI,
            host: "Escherichia coli K-12 MG1655".into(),
        }
    }

    /// Counts the CDS of one line and no pseudogene; none where no codon is found.
    pub fn count(genome: &Genome, annotation: &Annotation, host: &str) -> Option<Self> {
        let mut counts = [0; 64];
        for feature in annotation.of_kind("CDS") {
            if feature.is_pseudo() {
                continue;
            }
            let bases = genome
                .get(&feature.contig)
                .and_then(|contig| feature.sequence(contig));
            let Some(bases) = bases.filter(|bases| bases.len() % 3 == 0) else {
                continue;
            };
            for codon in bases.chunks_exact(3) {
                if let Some(index) = index(codon) {
                    counts[index] += 1;
                }
            }
        }
        (counts.iter().sum::<u64>() > 0).then(|| Self {
            counts,
            host: host.to_owned(),
        })
    }

    /// How often a codon was seen; 0 for what is no codon.
    pub fn of(&self, codon: &[u8]) -> u64 {
        index(codon).map_or(0, |index| self.counts[index])
    }

    /// The codon of an amino acid that is used most; none where the code has no codon for it.
    pub fn most_frequent(&self, amino_acid: u8, code: GeneticCode) -> Option<[u8; 3]> {
        // Of equals the first.
        code.codons(amino_acid)
            .max_by_key(|codon| (self.of(codon), std::cmp::Reverse(*codon)))
    }

    /// The codon of an amino acid with the fewest changes from `codon`; of those the one that is
    /// used most.
    pub fn nearest(&self, codon: &[u8], amino_acid: u8, code: GeneticCode) -> Option<[u8; 3]> {
        code.codons(amino_acid).min_by_key(|other| {
            let changes = other.iter().zip(codon).filter(|(a, b)| a != b).count();
            (changes, std::cmp::Reverse(self.of(other)), *other)
        })
    }
}

fn index(codon: &[u8]) -> Option<usize> {
    let digit = |base: &u8| b"TCAG".iter().position(|known| known == base);
    match codon {
        [a, b, c] => Some(16 * digit(a)? + 4 * digit(b)? + digit(c)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GeneticCode::{Eleven, Four};

    #[test]
    fn codons_are_chosen_by_distance_and_use() {
        let usage = Usage::ecoli();
        assert_eq!(usage.of(b"CTG"), 71_053);
        assert_eq!(usage.of(b"NTG"), 0);
        assert_eq!(usage.most_frequent(b'L', Eleven), Some(*b"CTG"));
        assert_eq!(usage.most_frequent(b'X', Eleven), None);
        // One change leads to GGT alone.
        assert_eq!(usage.nearest(b"GCT", b'G', Eleven), Some(*b"GGT"));
        // One change leads to TTA, TTG and CTT: the first is used most.
        assert_eq!(usage.nearest(b"TTT", b'L', Eleven), Some(*b"TTA"));
        assert_eq!(usage.nearest(b"GCT", b'A', Eleven), Some(*b"GCT"));
        assert_eq!(usage.nearest(b"TGG", b'*', Eleven), Some(*b"TGA"));
        assert_eq!(usage.nearest(b"TGG", b'*', Four), Some(*b"TAG"));
    }

    #[test]
    fn a_genome_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let fasta = write("a.fna", ">c\nATGGCTGCTTAAGG\n");
        let gff = write("a.gff3", "c\tx\tCDS\t1\t12\t.\t+\t0\tID=a\n");
        let genome = Genome::read(&fasta).unwrap();
        let annotation = Annotation::read(&gff, Some(&genome)).unwrap();
        let usage = Usage::count(&genome, &annotation, "c").unwrap();
        assert_eq!(
            (usage.of(b"GCT"), usage.of(b"ATG"), usage.of(b"CTG")),
            (2, 1, 0)
        );
    }
}
