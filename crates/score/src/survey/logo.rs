//! Bases around boundaries.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::{Contig, Genome};
use serde::Serialize;

use super::marks::complement;

/// Bases on either side of a boundary's own base.
const REACH: i64 = 10;

/// Counts of bases around the boundaries of one stage, in reading direction.
#[derive(Debug, Clone, Serialize)]
pub struct Logo {
    /// Offset of the first row from the first base of a chunk.
    pub first: i64,
    /// Counts of A, C, G and T at each offset.
    pub counts: Vec<[u64; 4]>,
    /// Shares of A, C, G and T along the strand that is read.
    pub background: [f64; 4],
    /// Information over the background at each offset, in bits.
    pub bits: Vec<f64>,
}

fn code(base: u8) -> Option<usize> {
    b"ACGT".iter().position(|&known| known == base)
}

impl Logo {
    /// Nothing yet, against the composition of a strand of `genome`.
    pub(super) fn new(genome: &Genome, strand: Strand) -> Self {
        let mut counts = [0u64; 4];
        for &base in genome.contigs.iter().flat_map(|contig| &contig.bases) {
            if let Some(code) = code(base) {
                counts[code] += 1;
            }
        }
        if strand == Strand::Reverse {
            counts.reverse();
        }
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let rows = 2 * REACH as usize + 1;
        Self {
            first: -REACH,
            counts: vec![[0; 4]; rows],
            background: counts.map(|count| count as f64 / total),
            bits: vec![0.0; rows],
        }
    }

    /// Adds the boundaries of a contig.
    pub(super) fn add(&mut self, contig: &Contig, starts: &[u8], stage: usize, strand: Strand) {
        let length = contig.bases.len() as i64;
        for (i, start) in starts.iter().enumerate() {
            if start >> stage & 1 == 0 {
                continue;
            }
            for (offset, row) in (self.first..).zip(&mut self.counts) {
                let place = match strand {
                    Strand::Forward => i as i64 + offset,
                    Strand::Reverse => i as i64 - offset,
                };
                let place = match contig.topology {
                    Topology::Circular => place.rem_euclid(length),
                    Topology::Linear => place,
                };
                let Some(&base) = usize::try_from(place)
                    .ok()
                    .and_then(|i| contig.bases.get(i))
                else {
                    continue;
                };
                let base = match strand {
                    Strand::Forward => base,
                    Strand::Reverse => complement(base),
                };
                if let Some(code) = code(base) {
                    row[code] += 1;
                }
            }
        }
        for (bits, row) in self.bits.iter_mut().zip(&self.counts) {
            let total = row.iter().sum::<u64>() as f64;
            let terms = row.iter().zip(&self.background).map(|(&count, &share)| {
                let found = count as f64 / total;
                if count == 0 || share == 0.0 {
                    0.0
                } else {
                    found * (found / share).log2()
                }
            });
            *bits = terms.sum::<f64>().max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strands_see_the_same_bases() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("g.fna");
        std::fs::write(&path, ">c\nAACGTTGACGTA\n").expect("written");
        let genome = Genome::read(&path).expect("read");
        let contig = &genome.contigs[0];
        let mut starts = vec![0u8; 12];
        starts[2] = 1;
        let mut forward = Logo::new(&genome, Strand::Forward);
        forward.add(contig, &starts, 0, Strand::Forward);
        // At the boundary C, before it A, A and the contig's end.
        assert_eq!(forward.counts[10], [0, 1, 0, 0]);
        assert_eq!(forward.counts[9], [1, 0, 0, 0]);
        assert_eq!(forward.counts[7], [0; 4]);
        assert!((forward.bits[10] - (1.0 / forward.background[1]).log2()).abs() < 1e-12);
        let turned = Contig {
            bases: cistron_genome::revcomp(&contig.bases),
            ..contig.clone()
        };
        starts.reverse();
        let mut reverse = Logo::new(&genome, Strand::Reverse);
        reverse.add(&turned, &starts, 0, Strand::Reverse);
        assert_eq!(reverse.counts, forward.counts);
    }
}
