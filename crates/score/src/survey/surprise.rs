//! Stretches that the model finds least likely.

use std::io;

use cistron_genome::coord::Strand;
use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;
use serde::Serialize;

use super::PART;
use crate::boundaries::{Column, Spool};

/// A stretch of low likelihood.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Surprise {
    /// Contig.
    pub contig: String,
    /// First base, from one.
    pub first: u64,
    /// Last base.
    pub last: u64,
    /// Mean information of its bases over the strands that were read, in bits.
    pub information: f64,
    /// Names of genes that it touches.
    pub genes: Vec<String>,
}

pub(super) fn find(
    genome: &Genome,
    annotation: Option<&Annotation>,
    spools: &[(Strand, Spool)],
    window: usize,
    count: usize,
) -> io::Result<Vec<Surprise>> {
    let mut best: Vec<Surprise> = Vec::new();
    let mut first = 0;
    for contig in &genome.contigs {
        let length = contig.bases.len() as u64;
        // Sums of half windows: each window is two neighbours.
        let half = (window as u64 / 2).max(1);
        let mut sums = vec![0.0f64; length.div_ceil(half) as usize];
        for (_, spool) in spools {
            let mut from = 0;
            while from < length {
                let to = (from + PART).min(length);
                let values = spool.floats(Column::Information, first + from..first + to)?;
                for (i, &bits) in (from..).zip(&values) {
                    sums[(i / half) as usize] += f64::from(bits) / spools.len() as f64;
                }
                from = to;
            }
        }
        let mut found = Vec::new();
        for (i, pair) in (0u64..).zip(sums.windows(2)) {
            let end = ((i + 2) * half).min(length);
            let bases = end - i * half;
            if bases == 2 * half {
                found.push(((pair[0] + pair[1]) / bases as f64, i * half, end));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut chosen: Vec<(f64, u64, u64)> = Vec::new();
        for &(bits, start, end) in &found {
            if chosen.len() == count {
                break;
            }
            if chosen
                .iter()
                .all(|&(_, from, to)| end <= from || start >= to)
            {
                chosen.push((bits, start, end));
            }
        }
        best.extend(
            chosen
                .into_iter()
                .map(|(information, start, end)| Surprise {
                    contig: contig.name.to_string(),
                    first: start + 1,
                    last: end,
                    information,
                    genes: Vec::new(),
                }),
        );
        best.sort_by(|a, b| b.information.total_cmp(&a.information));
        best.truncate(count);
        first += length;
    }
    let Some(annotation) = annotation else {
        return Ok(best);
    };
    for surprise in &mut best {
        let genes = annotation.features.iter().filter(|feature| {
            matches!(feature.kind.as_str(), "gene" | "pseudogene")
                && feature.contig == surprise.contig.as_str()
                && feature.interval.start() < surprise.last
                && feature.interval.end() >= surprise.first
        });
        let name = |feature: &cistron_genome::gff::Feature| {
            let known = feature.name().or(feature.locus_tag()).or(feature.id());
            known.unwrap_or_default().to_owned()
        };
        surprise.genes = genes.map(name).filter(|name| !name.is_empty()).collect();
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundaries::Piece;
    use crate::survey::marks::tests::annotation;

    #[test]
    fn the_least_likely_stretches_come_first() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("g.fna");
        std::fs::write(
            &path,
            format!(">a\n{}\n>b\n{}\n", "A".repeat(1_000), "C".repeat(70)),
        )
        .expect("written");
        let genome = Genome::read(&path).expect("read");
        let spool = Spool::create(folder.path(), 1_070, 0).expect("created");
        let mut information = vec![1.0f32; 1_070];
        information[300..400].fill(3.0);
        information[1_020..1_060].fill(2.0);
        let piece = Piece {
            start: 0,
            entropy: information.clone(),
            information,
            stages: vec![],
        };
        spool.put(0, &piece).expect("put");
        let genes = annotation("a . gene 350 360 . + . Name=abc\n");
        let found = find(&genome, Some(&genes), &[(Strand::Forward, spool)], 40, 3).expect("read");
        let shown: Vec<_> = found
            .iter()
            .map(|s| (s.contig.as_str(), s.first, s.last, s.information))
            .collect();
        assert_eq!(
            shown,
            [
                ("a", 301, 340, 3.0),
                ("a", 341, 380, 3.0),
                ("a", 381, 420, 2.0)
            ]
        );
        assert_eq!(
            (found[0].genes.len(), found[1].genes.as_slice()),
            (0, &["abc".to_owned()][..])
        );
    }
}
