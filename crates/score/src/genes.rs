//! Zero-shot gene essentiality: what a premature stop does to the likelihood around a gene.

use cistron_genome::code::GeneticCode;
use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::gff::Feature;
use cistron_genome::revcomp;
use cistron_genome::window::Window;
use tch::{Device, Kind, Tensor};

use crate::engine::{Branch, Engine, Tail};
use crate::error::ScoreError;

/// Bases between the start of a gene and the first cassette, and between cassettes.
const STEP: usize = 12;
/// Stops in all three frames; the second for codes that read TGA as an amino acid.
const CASSETTE: &[u8; 15] = b"TAATAATAATAGTGA";
const CASSETTE_WITHOUT_TGA: &[u8; 15] = b"TAATAATAATAGTAA";

/// How the cassette is put into a gene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knockout {
    /// In place of 15 bases.
    Replace,
    /// Between two bases; what it pushes past the window's end is left out.
    Insert,
    /// Between two bases, every 12 bases to the end of the gene.
    InsertEvery,
}

/// A gene's window and the same with the cassette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneWindows {
    branch_prefix: Vec<u8>,
    wild: Vec<u8>,
    stopped: Vec<u8>,
    /// Bases of the gene; it begins 12 bases before the end of the prefix.
    gene: usize,
}

/// Cuts the window of `window` bases centred on a gene, read along the gene; it wraps on circular
/// contigs and is clipped on linear ones. None where the gene does not fit, or is too short for
/// the cassette.
pub fn windows(
    contig: &Contig,
    gene: &Feature,
    code: GeneticCode,
    window: usize,
    knockout: Knockout,
) -> Option<GeneWindows> {
    let length = gene.sequence(contig)?.len();
    let turn = contig.bases.len();
    let window = match contig.topology {
        Topology::Linear => window,
        Topology::Circular => window.min(turn),
    };
    if length > window || length < STEP + CASSETTE.len() + 3 {
        return None;
    }
    let before = (window - length) / 2;
    let start = gene.interval.start() as i64;
    let (from, clipped) = match gene.strand? {
        Strand::Forward => {
            let cut = Window::extract(contig, start - before as i64, window);
            let clipped = cut.clipped_left;
            (cut.bases, clipped)
        }
        Strand::Reverse => {
            let after = window - length - before;
            let cut = Window::extract(contig, start - after as i64, window);
            (revcomp(&cut.bases), cut.clipped_right)
        }
    };
    let offset = before - clipped;
    let cassette = match code {
        GeneticCode::Eleven => CASSETTE,
        GeneticCode::Four | GeneticCode::TwentyFive => CASSETTE_WITHOUT_TGA,
    };
    let at = offset + STEP;
    let wild = from[at..].to_vec();
    let mut stopped = match knockout {
        Knockout::Replace => [&cassette[..], &wild[cassette.len()..]].concat(),
        Knockout::Insert => [&cassette[..], &wild].concat(),
        Knockout::InsertEvery => {
            let (gene, after) = wild.split_at(length - STEP);
            let pieces = gene.chunks(STEP).flat_map(|piece| [&cassette[..], piece]);
            pieces.chain([after]).collect::<Vec<_>>().concat()
        }
    };
    stopped.truncate(wild.len());
    Some(GeneWindows {
        branch_prefix: from[..at].to_vec(),
        wild,
        stopped,
        gene: length,
    })
}

/// Log-likelihood of each window less that with the cassette, in nats: high where the model minds.
/// With a horizon only so many bases from the cassette on count.
///
/// # Errors
///
/// A likelihood is not finite, or the run was stopped.
pub fn score(
    engine: &Engine,
    genes: &[GeneWindows],
    horizon: Option<usize>,
) -> Result<Vec<f64>, ScoreError> {
    let branches: Vec<Branch> = genes
        .iter()
        .map(|gene| {
            let count = horizon.unwrap_or(usize::MAX).min(gene.wild.len());
            let tail = |bases: &[u8]| Tail {
                step: 0,
                bases: bases[..count].to_vec(),
            };
            Branch {
                prefix: gene.branch_prefix.clone(),
                tails: vec![tail(&gene.wild), tail(&gene.stopped)],
                ..Branch::default()
            }
        })
        .collect();
    let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
    let values = engine.branches(&branches)?;
    let difference = |tails: &[Vec<f32>]| sum(&tails[0]) - sum(&tails[1]);
    Ok(values.iter().map(|v| difference(&v.tails)).collect())
}

/// For each gene the mean of the main network's outputs over the chunks that begin in it, after
/// at most `before` bases of its window; where none does, that of the last chunk before its end.
///
/// # Errors
///
/// The run was stopped.
pub fn embed(
    engine: &Engine,
    genes: &[GeneWindows],
    before: usize,
) -> Result<Vec<Vec<f32>>, ScoreError> {
    engine.map(genes, |model, gene| {
        let start = gene.branch_prefix.len() - STEP;
        let from = start.saturating_sub(before);
        let rest = &gene.wild[..(gene.gene - STEP).min(gene.wild.len())];
        let bases = [&gene.branch_prefix[from..], rest].concat();
        let alphabet = engine.alphabet();
        let tokens: Vec<i64> = std::iter::once(alphabet.bos())
            .chain(bases.iter().map(|&base| alphabet.encode(base)))
            .map(i64::from)
            .collect();
        let (latent, routing) = model.latent(&Tensor::from_slice(&tokens), &[tokens.len() as i64]);
        // The token that each chunk of the innermost stage begins with.
        let mut places: Vec<usize> = (0..tokens.len()).collect();
        for decided in &routing {
            let mask = Vec::<bool>::try_from(decided.mask.to_device(Device::Cpu))
                .expect("a mask is bool and has one dimension");
            let mut mask = mask.iter();
            places.retain(|_| *mask.next().unwrap_or(&false));
        }
        // BOS is token 0.
        let first = start - from + 1;
        let inside = places.partition_point(|&place| place < first);
        let inside = inside.min(places.len() - 1) as i64;
        let count = places.len() as i64 - inside;
        let pooled =
            latent
                .values
                .narrow(0, inside, count)
                .mean_dim([0i64].as_slice(), false, Kind::Float);
        Ok(Vec::try_from(pooled.to_device(Device::Cpu)).expect("an fp32 vector"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;
    use cistron_genome::gff::Annotation;

    fn feature(line: &str) -> Feature {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.gff3");
        std::fs::write(&path, line.replace(' ', "\t")).expect("written");
        Annotation::read(&path, None).expect("read").features[0].clone()
    }

    #[test]
    fn cassettes_stand_twelve_bases_into_the_gene() {
        let bases: Vec<u8> = (0..200u32)
            .map(|i| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 4])
            .collect();
        let whole = |w: &GeneWindows, tail: &[u8]| [&w.branch_prefix, tail].concat();
        for topology in [Topology::Linear, Topology::Circular] {
            let contig = Contig {
                name: "c".into(),
                description: String::new(),
                bases: bases.clone(),
                topology,
            };
            for (line, at) in [
                ("c . CDS 61 99 . + 0 ID=x", 60),
                ("c . CDS 11 49 . + 0 ID=x", 10),
            ] {
                let turned = line.replace('+', "-");
                let gene = feature(line);
                let of = |gene: &Feature, knockout| {
                    windows(&contig, gene, GeneticCode::Eleven, 99, knockout).expect("fits")
                };
                let cut = of(&gene, Knockout::Replace);
                let wild = whole(&cut, &cut.wild);
                let clipped = topology == Topology::Linear && at < 30;
                assert_eq!(wild.len(), if clipped { 79 } else { 99 });
                let inside = cut.branch_prefix.len() - 12;
                assert_eq!(wild[inside..inside + 39], bases[at..at + 39]);
                assert_eq!(cut.stopped.len(), cut.wild.len());
                assert_eq!(&cut.stopped[..15], CASSETTE);
                assert_eq!(cut.stopped[15..], cut.wild[15..]);
                let insert = of(&gene, Knockout::Insert);
                assert_eq!(insert.stopped[15..], insert.wild[..insert.wild.len() - 15]);
                let every = of(&gene, Knockout::InsertEvery);
                assert_eq!(every.stopped[15..27], every.wild[..12]);
                assert_eq!(&every.stopped[27..42], CASSETTE);
                // Along a gene of the other strand the window is the reverse complement.
                let turned = of(&feature(&turned), Knockout::Replace);
                assert_eq!(revcomp(&whole(&turned, &turned.wild)), wild);
            }
        }
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases,
            topology: Topology::Linear,
        };
        let gene = feature("c . CDS 61 99 . + 0 ID=x");
        let cut = windows(&contig, &gene, GeneticCode::Four, 99, Knockout::Replace);
        assert_eq!(&cut.expect("fits").stopped[..15], CASSETTE_WITHOUT_TGA);
        assert_eq!(
            windows(&contig, &gene, GeneticCode::Four, 38, Knockout::Replace),
            None
        );
    }

    #[test]
    fn embeddings_depend_on_the_gene_and_what_is_before_it() {
        let bases: Vec<u8> = (0..400u32)
            .map(|i| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 4])
            .collect();
        let gene = feature("c . CDS 161 220 . + 0 ID=x");
        let cut = |bases: Vec<u8>| {
            let contig = Contig {
                name: "c".into(),
                description: String::new(),
                bases,
                topology: Topology::Linear,
            };
            windows(&contig, &gene, GeneticCode::Eleven, 300, Knockout::Replace).expect("fits")
        };
        let engine = engine();
        let read = |bases: &[u8]| embed(&engine, &[cut(bases.to_vec())], 50).expect("read");
        let found = read(&bases);
        assert_eq!(found[0].len(), 16);
        let changed = |at: usize| {
            let mut other = bases.clone();
            other[at] = if other[at] == b'A' { b'C' } else { b'A' };
            read(&other) != found
        };
        assert!(changed(180) && changed(120));
        assert!(!changed(100) && !changed(225));
    }

    #[test]
    fn a_horizon_ends_the_sum() {
        let bases: Vec<u8> = (0..300u32)
            .map(|i| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 4])
            .collect();
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases,
            topology: Topology::Linear,
        };
        let gene = feature("c . CDS 101 160 . + 0 ID=x");
        let cut = windows(&contig, &gene, GeneticCode::Eleven, 200, Knockout::Replace);
        let cut = [cut.expect("fits")];
        let engine = engine();
        let of = |horizon| score(&engine, &cut, horizon).expect("read")[0];
        assert_eq!(of(None), of(Some(10_000)));
        assert_ne!(of(None), of(Some(20)));
    }
}
