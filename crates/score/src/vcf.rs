//! Variant scores: alternate minus reference log-likelihood, written back into the VCF.

use std::collections::BTreeMap;
use std::ops::Range;

use cistron_genome::coord::Strand;
use cistron_genome::fasta::{Contig, Genome};
use cistron_variant::aliases::ContigAliases;
use cistron_variant::allele::Alleles;
use cistron_variant::annotate::{Declaration, Effect, Score, splice_header, splice_record};
use cistron_variant::consequence::{Consequence, Genes};
use cistron_variant::mismatch::{MismatchGuard, MismatchPolicy};
use cistron_variant::site::Site;
use cistron_variant::status::Status;
use cistron_variant::vcf::{Reader, Record};
use cistron_variant::writer::VcfWriter;

use crate::difference::{Differences, Frame, Plan};
use crate::engine::Engine;
use crate::error::ScoreError;

/// Records scored together, and bases of their windows; both bound memory and nothing else.
const BATCH: usize = 256;
const BATCH_BASES: usize = 1 << 26;

/// How variants are scored.
#[derive(Debug, Clone)]
pub struct VcfOptions {
    /// What is read around each variant.
    pub frame: Frame,
    /// What a REF mismatch does.
    pub mismatch: MismatchPolicy,
    /// The records to score and write, counted from 0; the others are read, and judged with
    /// them, and nothing more. All, if not given.
    pub only: Option<Range<u64>>,
}

/// What a VCF is scored against.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The reference.
    pub genome: &'a Genome,
    /// Other names of its contigs.
    pub aliases: &'a ContigAliases,
    /// Its genes, where consequences are wanted.
    pub genes: Option<&'a Genes<'a>>,
}

/// What became of one ALT.
#[derive(Debug, Clone)]
pub struct AltRow<'a> {
    /// Its record.
    pub record: &'a Record,
    /// The ALT.
    pub alternate: &'a [u8],
    /// The score, or why there is none.
    pub score: Score,
    /// The score of the forward strand alone, where it was read.
    pub forward: Option<f32>,
    /// The score of the reverse strand alone, where it was read.
    pub reverse: Option<f32>,
    /// Bases of each allele's window that count; 0 without a score.
    pub bases: usize,
    /// What it does to which gene, where consequences are wanted.
    pub effect: Option<Effect>,
}

impl AltRow<'_> {
    /// The status word's status.
    pub fn status(&self) -> Status {
        self.score.err().unwrap_or(Status::Ok)
    }
}

/// An error of whoever looks at rows.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct VcfSummary {
    /// Records read and written.
    pub records: u64,
    /// ALT alleles by status word.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Scored ALT alleles and the sum of their scores by consequence.
    pub consequences: BTreeMap<Consequence, (u64, f64)>,
    /// Contig names of the VCF that the reference lacks, with their records.
    pub unknown_contigs: BTreeMap<String, u64>,
}

impl VcfSummary {
    /// ALT alleles with a score.
    pub fn scored(&self) -> u64 {
        self.statuses.get(Status::Ok.word()).copied().unwrap_or(0)
    }
}

/// Scores every ALT of every record and writes the lines in their order.
///
/// `visit` sees every ALT, in order; `progress` hears of the records done.
///
/// # Errors
///
/// Input that is no VCF, a reference that does not fit, output that cannot be
/// written, or a score that is not finite. Nothing is left under the output's name then.
#[allow(clippy::too_many_arguments)]
pub fn score(
    engine: &Engine,
    target: Target<'_>,
    reader: &mut Reader,
    mut writer: VcfWriter,
    declaration: &Declaration,
    options: &VcfOptions,
    visit: &mut dyn FnMut(&AltRow<'_>) -> Result<(), VisitError>,
    progress: &mut dyn FnMut(u64),
) -> Result<VcfSummary, ScoreError> {
    options.frame.check()?;
    writer.write_header(&splice_header(reader.header(), declaration))?;
    let limit = batch_size(&target.genome.contigs, &options.frame) * engine.appetite();
    let mut guard = MismatchGuard::new(options.mismatch);
    let mut summary = VcfSummary::default();
    let mut batch: Vec<Record> = Vec::with_capacity(limit);
    let mut number = 0;
    loop {
        let record = reader.next_record()?;
        let ended = record.is_none();
        let only = options.only.as_ref();
        let (own, other) = match only.is_none_or(|only| only.contains(&number)) {
            true => (record, None),
            false => (None, record),
        };
        number += 1;
        batch.extend(own);
        // The guard sees records in their order.
        if batch.len() == limit || ended || (other.is_some() && !batch.is_empty()) {
            let scored = score_batch(engine, target, &batch, options, &mut guard, &mut summary)?;
            for (record, alts) in batch.iter().zip(scored) {
                for (alt, alternate) in alts.iter().zip(record.alts()) {
                    let row = alt.row(record, alternate, &options.frame);
                    summary.add(&row);
                    visit(&row).map_err(ScoreError::Visit)?;
                }
                let scores: Vec<Score> = alts.iter().map(|alt| alt.score).collect();
                let effects = target
                    .genes
                    .map(|_| alts.into_iter().map(|alt| alt.effect).collect::<Vec<_>>());
                let line = splice_record(record, &scores, effects.as_deref())?;
                writer.write_record(record, &line)?;
            }
            summary.records += batch.len() as u64;
            progress(summary.records);
            batch.clear();
        }
        if let Some(record) = other {
            let site = Site::locate(&record, target.genome, target.aliases);
            guard.observe(&record, &site)?;
        }
        if ended {
            break;
        }
    }
    guard.finish()?;
    writer.finish()?;
    Ok(summary)
}

/// Records a batch: fewer where windows are long. A record has two windows a strand and ALT.
fn batch_size(contigs: &[Contig], frame: &Frame) -> usize {
    let longest = contigs.iter().map(|contig| contig.bases.len()).max();
    let window = frame.context.min(longest.unwrap_or(0));
    (BATCH_BASES / (2 * frame.strands.len() * window).max(1)).clamp(1, BATCH)
}

/// One ALT.
struct Alt {
    score: Score,
    strands: Vec<f32>,
    bases: usize,
    effect: Option<Effect>,
}

impl Alt {
    fn row<'a>(&self, record: &'a Record, alternate: &'a [u8], frame: &Frame) -> AltRow<'a> {
        let of = |wanted: Strand| {
            let mut strands = frame.strands.iter().zip(&self.strands);
            strands
                .find(|(strand, _)| **strand == wanted)
                .map(|(_, score)| *score)
        };
        AltRow {
            record,
            alternate,
            score: self.score,
            forward: of(Strand::Forward),
            reverse: of(Strand::Reverse),
            bases: self.bases,
            effect: self.effect.clone(),
        }
    }
}

impl VcfSummary {
    fn add(&mut self, row: &AltRow<'_>) {
        *self.statuses.entry(row.status().word()).or_default() += 1;
        if let (Ok(score), Some((consequence, _))) = (row.score, &row.effect) {
            let sums = self.consequences.entry(*consequence).or_default();
            sums.0 += 1;
            sums.1 += f64::from(score);
        }
    }
}

/// The ALTs of every record.
fn score_batch(
    engine: &Engine,
    target: Target<'_>,
    records: &[Record],
    options: &VcfOptions,
    guard: &mut MismatchGuard,
    summary: &mut VcfSummary,
) -> Result<Vec<Vec<Alt>>, ScoreError> {
    type Planned = (Result<Plan, Status>, Option<Effect>);
    let mut differences = Differences::default();
    let mut planned: Vec<Vec<Planned>> = Vec::with_capacity(records.len());
    for record in records {
        let site = Site::locate(record, target.genome, target.aliases);
        guard.observe(record, &site)?;
        if site.contig.is_none() {
            *summary
                .unknown_contigs
                .entry(record.chrom().to_owned())
                .or_default() += 1;
        }
        let effect = |alleles: &Result<Alleles, Status>| {
            let (genes, contig) = (target.genes?, site.contig?);
            let (consequence, gene) = genes.consequence(contig, alleles.as_ref().ok()?);
            Some((consequence, gene.map(str::to_owned)))
        };
        let plan = |alleles: &Result<Alleles, Status>| {
            let effect = effect(alleles);
            let plan = match (alleles, site.contig) {
                (Ok(alleles), Some(contig)) => differences.plan(contig, alleles, &options.frame),
                (Ok(_), None) => Err(Status::NoContig),
                (Err(status), _) => Err(*status),
            };
            (plan, effect)
        };
        planned.push(site.alleles.iter().map(plan).collect());
    }
    let values = differences.read(engine)?;
    let alt = |(plan, effect): Planned| match plan {
        Ok(plan) => Alt {
            score: Ok(values.of(&plan)),
            strands: values.by_strand(&plan),
            bases: plan.bases(),
            effect,
        },
        Err(status) => Alt {
            score: Err(status),
            strands: Vec::new(),
            bases: 0,
            effect,
        },
    };
    Ok(planned
        .into_iter()
        .map(|alts| alts.into_iter().map(alt).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_genome::coord::{Strand, Topology};

    #[test]
    fn batches_of_long_windows_are_small() {
        let contig = |length| Contig {
            name: "c".into(),
            description: String::new(),
            bases: vec![b'A'; length],
            topology: Topology::Linear,
        };
        let size = |length, context| {
            let frame = Frame {
                context,
                horizon: None,
                grid: 1,
                strands: vec![Strand::Forward, Strand::Reverse],
            };
            batch_size(&[contig(length)], &frame)
        };
        assert_eq!(size(5_000_000, 8192), BATCH);
        assert_eq!(size(5_000_000, 4_000_000_000), 3);
        assert_eq!(size(100, 4_000_000_000), BATCH);
        assert_eq!(size(0, 8192), BATCH);
    }
}
