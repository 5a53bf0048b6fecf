//! Scores of the variants of a gene: its likelihood with the changes less that without.

pub mod baselines;

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::{Contig, Genome};
use cistron_genome::revcomp;
use cistron_genome::window::Window;
use cistron_variant::allele::Alleles;
use cistron_variant::dms::edits::Edit;
use cistron_variant::status::Status;

use crate::difference::{Differences, Frame, Plan};
use crate::engine::{Branch, Engine, Tail};
use crate::error::ScoreError;

/// Variants read together.
const BATCH: usize = 512;

/// A coding sequence with what lies around it, read along the gene.
#[derive(Debug, Clone)]
pub struct Placed {
    /// All bases, as a linear contig.
    pub contig: Contig,
    /// Index of the first base of the coding sequence.
    pub offset: usize,
}

/// Where a gene lies in a genome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index of the contig.
    pub contig: usize,
    /// Index in it of the gene's lowest base.
    pub start: u64,
    /// Its bases.
    pub length: u64,
    /// Its strand.
    pub strand: Strand,
}

impl Placed {
    /// A coding sequence and nothing around it.
    pub fn alone(name: &str, cds: &[u8]) -> Self {
        Self {
            contig: linear(name, cds.to_vec()),
            offset: 0,
        }
    }

    /// A coding sequence in the place of a gene, with `flank` bases of the genome on both sides,
    /// or as many as there are.
    pub fn within(genome: &Genome, place: &Place, cds: &[u8], flank: usize) -> Self {
        let contig = &genome.contigs[place.contig];
        let turn = contig.bases.len() as u64;
        let flank = match contig.topology {
            Topology::Linear => flank,
            // No base twice.
            Topology::Circular => flank.min((turn.saturating_sub(place.length) / 2) as usize),
        };
        let start = place.start as i64;
        let left = Window::extract(contig, start - flank as i64, flank).bases;
        let right = Window::extract(contig, start + place.length as i64, flank).bases;
        let (before, after) = match place.strand {
            Strand::Forward => (left, right),
            Strand::Reverse => (revcomp(&right), revcomp(&left)),
        };
        Self {
            contig: linear(contig.name.as_str(), [&before, cds, &after].concat()),
            offset: before.len(),
        }
    }
}

fn linear(name: &str, bases: Vec<u8>) -> Contig {
    Contig {
        name: name.into(),
        description: String::new(),
        bases,
        topology: Topology::Linear,
    }
}

impl Place {
    /// Every place of a genome, on both strands, that has exactly these bases; those across the
    /// origin of a circular contig are not found.
    pub fn find(genome: &Genome, bases: &[u8]) -> Vec<Self> {
        let turned = revcomp(bases);
        let mut found = Vec::new();
        for (number, contig) in genome.contigs.iter().enumerate() {
            for (strand, wanted) in [(Strand::Forward, bases), (Strand::Reverse, &turned)] {
                let starts = memchr::memmem::find_iter(&contig.bases, wanted);
                found.extend(starts.map(|start| Self {
                    contig: number,
                    start: start as u64,
                    length: bases.len() as u64,
                    strand,
                }));
            }
        }
        found
    }
}

/// Scores of variants in their order: alternate minus reference log-likelihood, in nats. Of
/// several ways to write a variant the logarithm of the mean likelihood ratio counts.
///
/// A variant that spans several codons is read over the horizon from its last codon on.
/// `progress` hears of the variants done.
///
/// # Errors
///
/// A likelihood is not finite, a setting is outside its range, or the run was stopped. A variant
/// that has no window of its own gets a status.
pub fn score(
    engine: &Engine,
    placed: &Placed,
    variants: &[Vec<Edit>],
    frame: &Frame,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Result<f64, Status>>, ScoreError> {
    frame.check()?;
    // Neighbours share what is read before them.
    let mut order: Vec<usize> = (0..variants.len()).collect();
    order.sort_by_key(|&i| variants[i].first().map(|edit| edit.start));
    let mut scores = vec![Err(Status::NoAlt); variants.len()];
    let mut done = 0;
    for batch in order.chunks((BATCH * engine.appetite() / 4).max(BATCH)) {
        let mut differences = Differences::default();
        let plans: Vec<Result<Vec<Option<Plan>>, Status>> = batch
            .iter()
            .map(|&i| {
                variants[i]
                    .iter()
                    .map(|edit| plan(&mut differences, placed, edit, frame))
                    .collect()
            })
            .collect();
        let values = differences.read(engine)?;
        for (&i, plans) in batch.iter().zip(plans) {
            scores[i] = plans.and_then(|plans| {
                let of = |plan: &Option<Plan>| plan.as_ref().map_or(0.0, |plan| values.mean(plan));
                let ways: Vec<f64> = plans.iter().map(of).collect();
                log_mean_exp(&ways).ok_or(Status::NoAlt)
            });
        }
        done += batch.len() as u64;
        progress(done);
    }
    Ok(scores)
}

fn plan(
    differences: &mut Differences,
    placed: &Placed,
    edit: &Edit,
    frame: &Frame,
) -> Result<Option<Plan>, Status> {
    if edit.is_identity() {
        return Ok(None);
    }
    let mut reference = edit.reference.clone();
    let mut alternate = edit.alternate.clone();
    let mut position = placed.offset + edit.start;
    // Alleles of a deletion keep the base before it, as in a VCF, or the one after.
    if alternate.is_empty() {
        match position.checked_sub(1) {
            Some(before) => {
                position = before;
                reference.insert(0, placed.contig.bases[before]);
                alternate.insert(0, placed.contig.bases[before]);
            }
            None => {
                let after = placed.contig.bases.get(reference.len());
                let after = *after.ok_or(Status::TooLong)?;
                reference.push(after);
                alternate.push(after);
            }
        }
    }
    let span = reference.len().max(alternate.len());
    let beyond = span.saturating_sub(3);
    let frame = Frame {
        context: match 2 * span > frame.context / 2 {
            true => frame.context + 4 * span,
            false => frame.context,
        },
        horizon: frame.horizon.map(|horizon| horizon + beyond),
        ..frame.clone()
    };
    let alleles = Alleles {
        position: position as u64,
        reference,
        alternate,
    };
    differences.plan(&placed.contig, &alleles, &frame).map(Some)
}

/// Logarithm of the mean of the exponentials; none of nothing.
fn log_mean_exp(values: &[f64]) -> Option<f64> {
    let highest = values.iter().copied().reduce(f64::max)?;
    let sum: f64 = values.iter().map(|value| (value - highest).exp()).sum();
    Some(highest + (sum / values.len() as f64).ln())
}

/// Log-likelihoods of whole sequences in nats, as the mean over `strands`.
///
/// # Errors
///
/// A likelihood is not finite, or the run was stopped.
pub fn likelihoods(
    engine: &Engine,
    sequences: &[Vec<u8>],
    strands: &[Strand],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<f64>, ScoreError> {
    let mut found = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(8 * BATCH * engine.appetite()) {
        // Threads share branches, one of which would be one thread's work.
        let branches: Vec<Branch> = batch
            .chunks(BATCH / 8)
            .map(|part| Branch {
                tails: part
                    .iter()
                    .flat_map(|sequence| strands.iter().map(|strand| turned(sequence, *strand)))
                    .map(|bases| Tail { step: 0, bases })
                    .collect(),
                ..Branch::default()
            })
            .collect();
        let values = engine.branches(&branches)?;
        let sums: Vec<f64> = values
            .iter()
            .flat_map(|read| &read.tails)
            .map(|values| values.iter().map(|&v| f64::from(v)).sum())
            .collect();
        let mean = |sums: &[f64]| sums.iter().sum::<f64>() / sums.len() as f64;
        found.extend(sums.chunks(strands.len().max(1)).map(mean));
        progress(found.len() as u64);
    }
    Ok(found)
}

fn turned(sequence: &[u8], strand: Strand) -> Vec<u8> {
    match strand {
        Strand::Forward => sequence.to_vec(),
        Strand::Reverse => revcomp(sequence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;
    use crate::metrics::rank::mix;
    use cistron_genome::fasta::CircularSpec;

    fn bases(length: u32, salt: u32) -> Vec<u8> {
        let letter = |i| b"ACGT"[mix(u64::from(i + 1000 * salt)) as usize % 4];
        (0..length).map(letter).collect()
    }

    fn edit(cds: &[u8], start: usize, length: usize, alternate: &[u8]) -> Edit {
        Edit {
            start,
            reference: cds[start..start + length].to_vec(),
            alternate: alternate.to_vec(),
        }
    }

    fn frame(horizon: Option<usize>) -> Frame {
        Frame {
            context: 96,
            horizon,
            grid: 8,
            strands: vec![Strand::Forward, Strand::Reverse],
        }
    }

    #[test]
    fn variants_are_scored_in_their_order_and_alone() {
        let engine = engine();
        let cds = bases(120, 5);
        let placed = Placed::alone("g", &cds);
        let variants: Vec<Vec<Edit>> = vec![
            vec![edit(&cds, 60, 3, b"GGG")],
            vec![edit(&cds, 3, 3, b"GGG"), edit(&cds, 3, 3, b"GGT")],
            vec![edit(&cds, 9, 3, &cds[9..12])],
            vec![edit(&cds, 0, 90, &bases(90, 77))],
            vec![edit(&cds, 30, 3, b"")],
            vec![],
        ];
        let run = |variants: &[Vec<Edit>]| {
            score(&engine, &placed, variants, &frame(Some(12)), &mut |_| ()).expect("scored")
        };
        let together = run(&variants);
        assert_eq!(together[2], Ok(0.0));
        assert_eq!(together[5], Err(Status::NoAlt));
        for (variant, expected) in variants.iter().zip(&together) {
            assert_eq!(&run(std::slice::from_ref(variant))[0], expected);
        }
        let ways: Vec<f64> = variants[1]
            .iter()
            .map(|edit| run(&[vec![edit.clone()]])[0].expect("scored"))
            .collect();
        let expected = ((ways[0].exp() + ways[1].exp()) / 2.0).ln();
        assert!((together[1].expect("scored") - expected).abs() < 1e-9);
        assert!(together.iter().take(5).all(Result::is_ok));
    }

    #[test]
    fn the_whole_window_is_what_reading_both_sequences_gives() {
        let engine = engine();
        let cds = bases(45, 5);
        let placed = Placed::alone("g", &cds);
        let change = edit(&cds, 21, 3, b"GGG");
        let mut changed = cds.clone();
        changed[21..24].copy_from_slice(b"GGG");
        let found = score(&engine, &placed, &[vec![change]], &frame(None), &mut |_| ());
        let strands = [Strand::Forward, Strand::Reverse];
        let whole = likelihoods(&engine, &[cds, changed], &strands, &mut |_| ()).expect("read");
        let found = found.expect("scored")[0].expect("scored");
        assert!(
            (found - (whole[1] - whole[0])).abs() < 1e-3,
            "{found} {whole:?}"
        );
    }

    #[test]
    fn genes_are_found_and_placed_on_both_strands() {
        let whole = bases(300, 9);
        let gene = &whole[100..160];
        for topology in [Topology::Linear, Topology::Circular] {
            for strand in [Strand::Forward, Strand::Reverse] {
                let bases = match strand {
                    Strand::Forward => whole.clone(),
                    Strand::Reverse => revcomp(&whole),
                };
                let contig = Contig {
                    topology,
                    ..linear("c", bases)
                };
                let genome = genome(contig);
                let places = Place::find(&genome, gene);
                assert_eq!(places.len(), 1);
                assert_eq!(places[0].strand, strand);
                let placed = Placed::within(&genome, &places[0], gene, 90);
                assert_eq!(placed.offset, 90);
                assert_eq!(placed.contig.bases, whole[10..250]);
                let wide = Placed::within(&genome, &places[0], gene, 1000);
                match topology {
                    Topology::Linear => assert_eq!(wide.contig.bases, whole),
                    Topology::Circular => assert_eq!(wide.contig.bases.len(), 300),
                }
                assert_eq!(&wide.contig.bases[wide.offset..wide.offset + 60], gene);
            }
        }
    }

    fn genome(contig: Contig) -> Genome {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("g.fna");
        let text = [b">c\n", contig.bases.as_slice(), b"\n"].concat();
        std::fs::write(&path, text).expect("written");
        let mut genome = Genome::read(&path).expect("FASTA");
        if contig.topology == Topology::Circular {
            genome.set_circular(&CircularSpec::All).expect("there");
        }
        genome
    }
}
