//! Every single-nucleotide change of a stretch of a contig.

use cistron_genome::coord::Interval;
use cistron_genome::fasta::Contig;
use cistron_variant::allele::Alleles;

use crate::difference::{Differences, Frame};
use crate::engine::Engine;
use crate::error::ScoreError;

/// Positions scored together.
const BATCH: u64 = 512;

/// The changes of one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// Zero-based index in the contig.
    pub position: u64,
    /// The base of the reference.
    pub reference: u8,
    /// Score of the change to A, C, G and T: alternate minus reference log-likelihood in nats;
    /// none for the reference itself, and where the reference is none of the four.
    pub scores: [Option<f32>; 4],
}

impl Site {
    /// Mean over the changes.
    pub fn mean(&self) -> Option<f32> {
        let scores: Vec<f64> = self
            .scores
            .iter()
            .flatten()
            .map(|&s| f64::from(s))
            .collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        (!scores.is_empty()).then_some(mean as f32)
    }
}

/// Scores all changes in `interval`, which ends within the contig; `visit` gets the sites batch
/// by batch, in order.
///
/// # Errors
///
/// A setting is outside its range, a score is not finite, or `visit` fails.
pub fn saturate<E: From<ScoreError>>(
    engine: &Engine,
    contig: &Contig,
    interval: Interval,
    frame: &Frame,
    visit: &mut dyn FnMut(&[Site]) -> Result<(), E>,
) -> Result<(), E> {
    frame.check()?;
    // Whole cells, so that none is read in two batches.
    let batch = (BATCH * engine.appetite() as u64 / 4).max(BATCH);
    let batch = batch.next_multiple_of(frame.grid as u64);
    let mut start = interval.start();
    while start < interval.end() {
        let end = ((start / batch + 1) * batch).min(interval.end());
        visit(&sites(engine, contig, start..end, frame)?)?;
        start = end;
    }
    Ok(())
}

fn sites(
    engine: &Engine,
    contig: &Contig,
    range: std::ops::Range<u64>,
    frame: &Frame,
) -> Result<Vec<Site>, ScoreError> {
    let mut differences = Differences::default();
    let mut plans = Vec::new();
    for position in range {
        let reference = contig.bases[position as usize];
        let plan = b"ACGT".map(|alternate| {
            if alternate == reference || !b"ACGT".contains(&reference) {
                return None;
            }
            let alleles = Alleles {
                position,
                reference: vec![reference],
                alternate: vec![alternate],
            };
            differences.plan(contig, &alleles, frame).ok()
        });
        plans.push((position, reference, plan));
    }
    let values = differences.read(engine)?;
    let site = |(position, reference, plan): (u64, u8, [Option<_>; 4])| Site {
        position,
        reference,
        scores: plan.map(|plan| plan.map(|plan| values.of(&plan))),
    };
    Ok(plans.into_iter().map(site).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;
    use cistron_genome::coord::{Strand, Topology};

    #[test]
    fn every_base_has_its_three_changes() {
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases: b"ACGTTGCANACCGTTAGCAT".repeat(3),
            topology: Topology::Linear,
        };
        let frame = Frame {
            context: 24,
            horizon: Some(8),
            grid: 8,
            strands: vec![Strand::Forward, Strand::Reverse],
        };
        let engine = engine();
        let run = |start, end| {
            let mut all = Vec::new();
            let interval = Interval::new(start, end).expect("ordered");
            saturate::<ScoreError>(&engine, &contig, interval, &frame, &mut |sites| {
                all.extend_from_slice(sites);
                Ok(())
            })
            .expect("scored");
            all
        };
        let all = run(0, 60);
        assert_eq!(all.len(), 60);
        for site in &all {
            let scored = site.scores.iter().flatten().count();
            assert_eq!(scored, if site.reference == b'N' { 0 } else { 3 });
            assert_eq!(site.mean().is_some(), scored == 3);
        }
        // A part is scored as it is within the whole.
        assert_eq!(run(13, 30), all[13..30]);
    }
}
