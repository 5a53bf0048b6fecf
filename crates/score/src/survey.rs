//! What the boundaries of a genome coincide with, and what would be expected by chance.
//!
//! Chunks are claimed to follow codons, genes and signals. A `Survey` counts, for each stage
//! and strand, how often a chunk starts at bases of each [`Mark`], with intervals from a
//! bootstrap over stretches of the genome, beside two controls: the same chunk lengths in
//! random order, and the same model on shuffled bases.

pub mod control;
mod lengths;
mod logo;
mod marks;
mod profile;
mod rng;
mod surprise;
mod tally;

use std::io;

use cistron_genome::coord::Strand;
use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;
use serde::Serialize;

use crate::boundaries::{Column, Spool};

pub use lengths::Lengths;
pub use logo::Logo;
pub use marks::{MARKS, Mark, marks};
pub use profile::{Profile, REACH};
pub use surprise::Surprise;
pub use tally::{Estimate, Rate, Tally};

/// Bases that are read from a spool at a time.
const PART: u64 = 1 << 16;

/// One strand of a genome.
#[derive(Debug, Clone, Serialize)]
pub struct StrandSurvey {
    /// Direction in which the model read.
    pub strand: Strand,
    /// Mean information and entropy of the bases of each mark, in bits.
    pub information: Vec<InformationOf>,
    /// Stages, outermost first.
    pub stages: Vec<StageSurvey>,
}

/// Information at the bases of a mark.
#[derive(Debug, Clone, Serialize)]
pub struct InformationOf {
    /// The mark.
    pub mark: Mark,
    /// Bases.
    pub bases: u64,
    /// Mean of `-log2` of the likelihood.
    pub information: Estimate,
    /// Mean entropy of the prediction.
    pub entropy: Estimate,
}

/// One stage on one strand.
#[derive(Debug, Clone, Serialize)]
pub struct StageSurvey {
    /// From one.
    pub stage: usize,
    /// Bases that were read.
    pub bases: u64,
    /// Chunks.
    pub chunks: u64,
    /// Mean boundary probability over all bases.
    pub mean_probability: f64,
    /// Boundary rates at the bases of each mark.
    pub rates: Vec<Rate>,
    /// The same for chunks of the same lengths in random order.
    pub random: Vec<Rate>,
    /// The same for the model on shuffled bases; empty where it was not run.
    pub shuffled: Vec<Rate>,
    /// Chunk lengths.
    pub lengths: Lengths,
    /// Bases around boundaries.
    pub logo: Logo,
    /// Boundary rates around the first base of start codons and of stop codons.
    pub around_start: Profile,
    /// As `around_start`.
    pub around_stop: Profile,
}

/// Counts one strand that `spool` holds.
///
/// # Errors
/// The spool cannot be read.
pub fn strand(
    genome: &Genome,
    annotation: Option<&Annotation>,
    strand: Strand,
    spool: &Spool,
) -> io::Result<StrandSurvey> {
    let stages = spool.stages();
    let total = genome.total_len();
    let mut tally = Tally::new(stages, total);
    let mut lengths = vec![Lengths::default(); stages];
    let mut logos = vec![Logo::new(genome, strand); stages];
    let mut starts_at = vec![Profile::default(); stages];
    let mut stops_at = vec![Profile::default(); stages];
    let mut random = vec![control::Random::new(stages, total); stages];
    let mut probability = vec![0.0; stages];
    let mut first = 0;
    for contig in &genome.contigs {
        let length = contig.bases.len() as u64;
        let marked = marks(annotation, contig, strand);
        let mut starts = Vec::with_capacity(contig.bases.len());
        let mut from = 0;
        while from < length {
            let to = (from + PART).min(length);
            let range = first + from..first + to;
            let begun = spool.starts(range.clone())?;
            let information = spool.floats(Column::Information, range.clone())?;
            let entropy = spool.floats(Column::Entropy, range.clone())?;
            let part = from as usize..to as usize;
            tally.add(&marked[part], &begun, &information, &entropy);
            for (stage, sum) in probability.iter_mut().enumerate() {
                let values = spool.floats(Column::Probability(stage), range.clone())?;
                *sum += values.iter().map(|&p| f64::from(p)).sum::<f64>();
            }
            starts.extend(begun);
            from = to;
        }
        tally.end_contig();
        for stage in 0..stages {
            let found = lengths::of(&starts, stage, strand);
            lengths[stage].add(&found, &marked, strand);
            random[stage].add(found, &marked, stage, strand);
            logos[stage].add(contig, &starts, stage, strand);
            let (begin, end) = profile::places(annotation, contig, strand);
            starts_at[stage].add(&starts, stage, strand, contig.topology, &begin);
            stops_at[stage].add(&starts, stage, strand, contig.topology, &end);
        }
        first += length;
    }
    let mut stage_surveys = Vec::with_capacity(stages);
    let parts = lengths
        .into_iter()
        .zip(logos)
        .zip(starts_at)
        .zip(stops_at)
        .zip(random);
    for (stage, ((((lengths, logo), around_start), around_stop), random)) in parts.enumerate() {
        stage_surveys.push(StageSurvey {
            stage: stage + 1,
            bases: total,
            chunks: lengths.chunks,
            mean_probability: probability[stage] / total.max(1) as f64,
            rates: tally.rates(stage),
            random: random.rates(),
            shuffled: Vec::new(),
            lengths,
            logo,
            around_start,
            around_stop,
        });
    }
    Ok(StrandSurvey {
        strand,
        information: tally.information(),
        stages: stage_surveys,
    })
}

/// The stretches of `window` bases that the model finds least likely, at most `count` that do
/// not overlap; the mean over the strands that were read.
///
/// # Errors
/// A spool cannot be read.
pub fn surprises(
    genome: &Genome,
    annotation: Option<&Annotation>,
    spools: &[(Strand, Spool)],
    window: usize,
    count: usize,
) -> io::Result<Vec<Surprise>> {
    surprise::find(genome, annotation, spools, window, count)
}
