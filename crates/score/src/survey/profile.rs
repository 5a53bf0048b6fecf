//! Boundary rates base by base around the ends of genes.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::gff::Annotation;
use serde::Serialize;

use super::marks::is_coding;

/// Bases on either side.
pub const REACH: i64 = 45;

/// Boundary rates at each offset from a place, in reading direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Places.
    pub places: u64,
    /// Offset of the first rate.
    pub first: i64,
    /// Boundaries at each offset, a place.
    pub rates: Vec<f64>,
    #[serde(skip)]
    counts: Vec<(u64, u64)>,
}

/// First bases of the start codons and of the stop codons of genes on the strand that is read;
/// genes in parts or cut off are left out.
pub(super) fn places(
    annotation: Option<&Annotation>,
    contig: &Contig,
    strand: Strand,
) -> (Vec<i64>, Vec<i64>) {
    let length = contig.bases.len() as u64;
    let genes = annotation.iter().flat_map(|annotation| {
        annotation.features.iter().filter(|feature| {
            feature.contig == contig.name
                && feature.strand == Some(strand)
                && is_coding(feature)
                && feature.attributes.get("partial") != Some("true")
                && feature.interval.end() <= length
                && feature.interval.len() % 3 == 0
        })
    });
    genes
        .map(|gene| {
            let (start, end) = (gene.interval.start() as i64, gene.interval.end() as i64);
            match strand {
                Strand::Forward => (start, end - 3),
                Strand::Reverse => (end - 1, start + 2),
            }
        })
        .unzip()
}

impl Profile {
    pub(super) fn add(
        &mut self,
        starts: &[u8],
        stage: usize,
        strand: Strand,
        topology: Topology,
        places: &[i64],
    ) {
        let length = starts.len() as i64;
        self.first = -REACH;
        self.counts.resize(2 * REACH as usize + 1, (0, 0));
        for &place in places {
            for (offset, count) in (-REACH..).zip(&mut self.counts) {
                let at = match strand {
                    Strand::Forward => place + offset,
                    Strand::Reverse => place - offset,
                };
                let at = match topology {
                    Topology::Circular => at.rem_euclid(length),
                    Topology::Linear => at,
                };
                if let Some(start) = usize::try_from(at).ok().and_then(|at| starts.get(at)) {
                    count.0 += u64::from(start >> stage & 1);
                    count.1 += 1;
                }
            }
        }
        self.places += places.len() as u64;
        let rate = |&(found, of): &(u64, u64)| found as f64 / of.max(1) as f64;
        self.rates = self.counts.iter().map(rate).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::marks::tests::annotation;

    #[test]
    fn offsets_follow_the_gene() {
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases: vec![b'A'; 200],
            topology: Topology::Linear,
        };
        let genes = annotation("c . CDS 101 112 . + 0 ID=a\nc . CDS 11 22 . - 0 ID=b\n");
        assert_eq!(
            places(Some(&genes), &contig, Strand::Forward),
            (vec![100], vec![109])
        );
        assert_eq!(
            places(Some(&genes), &contig, Strand::Reverse),
            (vec![21], vec![12])
        );
        let mut starts = vec![0u8; 200];
        starts[100] = 1;
        starts[19] = 1;
        let rate = |strand, place, offset: i64| {
            let mut profile = Profile::default();
            profile.add(&starts, 0, strand, Topology::Linear, &[place]);
            profile.rates[(offset + REACH) as usize]
        };
        assert_eq!(rate(Strand::Forward, 100, 0), 1.0);
        assert_eq!(rate(Strand::Forward, 109, -9), 1.0);
        assert_eq!(rate(Strand::Reverse, 21, 2), 1.0);
        assert_eq!(rate(Strand::Reverse, 21, -2), 0.0);
    }
}
