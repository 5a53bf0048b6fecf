//! Language-model evaluation: bits per base of genomes, beside Markov chains.

use std::collections::BTreeMap;

use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::ScoreError;
use crate::markov::Markov;
use crate::regions;

/// How a genome is read.
#[derive(Debug, Clone)]
pub struct LmOptions {
    /// Bases a window; each starts from BOS, and windows do not overlap.
    pub context: usize,
    /// Read about this many bases, in windows evenly spaced; all when none.
    pub max_bases: Option<u64>,
}

/// Bits and bases of a part of a genome.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bits {
    /// Bases of A, C, G and T that were read.
    pub bases: u64,
    /// Bits per base.
    pub bits_per_base: f64,
}

/// A baseline on the same bases.
#[derive(Debug, Clone, Serialize)]
pub struct Baseline {
    /// Order of the Markov chain.
    pub order: usize,
    /// Bits per base.
    pub bits_per_base: f64,
}

/// Chunking of one stage over all windows.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StageReport {
    /// Share of the stage's tokens that start a chunk.
    pub selected: f64,
    /// Mean boundary probability.
    pub mean_probability: f64,
    /// Bases a chunk, over all stages so far.
    pub bases_per_chunk: f64,
}

/// Evaluation of one genome.
#[derive(Debug, Clone, Serialize)]
pub struct LmReport {
    /// File.
    pub file: String,
    /// All bases.
    #[serde(flatten)]
    pub all: Bits,
    /// Windows read.
    pub windows: usize,
    /// By annotation class, when there is an annotation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_class: BTreeMap<String, Bits>,
    /// By stage.
    pub stages: Vec<StageReport>,
    /// Markov chains on the same bases.
    pub baselines: Vec<Baseline>,
}

struct Tile {
    contig: usize,
    start: usize,
    end: usize,
}

fn tiles(genome: &Genome, options: &LmOptions) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for (contig, entry) in genome.contigs.iter().enumerate() {
        for start in (0..entry.bases.len()).step_by(options.context) {
            let end = (start + options.context).min(entry.bases.len());
            tiles.push(Tile { contig, start, end });
        }
    }
    if let Some(max) = options.max_bases {
        let wanted = (max as usize).div_ceil(options.context).max(1);
        if wanted < tiles.len() {
            let total = tiles.len();
            let mut number = 0;
            tiles.retain(|_| {
                let keep = number * wanted / total != (number + 1) * wanted / total;
                number += 1;
                keep
            });
        }
    }
    tiles
}

#[derive(Default)]
struct Sums {
    nats: f64,
    bases: u64,
}

impl Sums {
    fn bits(&self) -> Bits {
        let bits_per_base = self.nats / std::f64::consts::LN_2 / self.bases.max(1) as f64;
        Bits {
            bases: self.bases,
            bits_per_base,
        }
    }
}

#[derive(Default, Clone)]
struct StageSums {
    tokens: u64,
    chunks: u64,
    probability: f64,
}

/// Evaluates a genome; `progress` hears of the bases done and of all.
///
/// # Errors
///
/// The context is zero, a likelihood is not finite, or the windows hold no A, C, G or T.
pub fn evaluate(
    engine: &Engine,
    genome: &Genome,
    annotation: Option<&Annotation>,
    baselines: &[Markov],
    options: &LmOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LmReport, ScoreError> {
    if options.context == 0 {
        return Err(ScoreError::Setting(
            "--context: expected 1 or more bases".into(),
        ));
    }
    let tiles = tiles(genome, options);
    let total: u64 = tiles
        .iter()
        .map(|tile| (tile.end - tile.start) as u64)
        .sum();
    let mut all = Sums::default();
    let mut classes: Vec<Sums> = regions::CLASSES.iter().map(|_| Sums::default()).collect();
    let mut stages: Vec<StageSums> = Vec::new();
    let mut markov = vec![(0.0, 0u64); baselines.len()];
    let mut labels: Option<(usize, Vec<u8>)> = None;
    let mut done = 0;
    for batch in tiles.chunks(4 * engine.threads()) {
        let readings = engine.map(batch, |model, tile| {
            engine.read(
                model,
                &genome.contigs[tile.contig].bases[tile.start..tile.end],
            )
        })?;
        for (tile, reading) in batch.iter().zip(readings) {
            let contig = &genome.contigs[tile.contig];
            if let Some(annotation) = annotation
                && labels.as_ref().is_none_or(|(of, _)| *of != tile.contig)
            {
                let of = regions::classify(annotation, contig);
                labels = Some((tile.contig, of));
            }
            let bases = &contig.bases[tile.start..tile.end];
            for (i, (base, value)) in bases.iter().zip(&reading.log_likelihoods).enumerate() {
                if !matches!(base, b'A' | b'C' | b'G' | b'T') {
                    continue;
                }
                let nats = -f64::from(*value);
                let class = labels.as_ref().map(|(_, labels)| labels[tile.start + i]);
                for sums in
                    std::iter::once(&mut all).chain(class.map(|c| &mut classes[usize::from(c)]))
                {
                    sums.nats += nats;
                    sums.bases += 1;
                }
            }
            stages.resize(reading.stages.len(), StageSums::default());
            for (sums, stage) in stages.iter_mut().zip(&reading.stages) {
                sums.tokens += stage.mask.len() as u64;
                sums.chunks += stage.mask.iter().filter(|&&b| b).count() as u64;
                sums.probability += stage.prob.iter().map(|&p| f64::from(p)).sum::<f64>();
            }
            for (chain, sums) in baselines.iter().zip(&mut markov) {
                let from = tile.start.saturating_sub(chain.order());
                let (bits, counted) = chain.bits(&contig.bases[from..tile.end], tile.start - from);
                *sums = (sums.0 + bits, sums.1 + counted);
            }
            done += bases.len() as u64;
        }
        progress(done, total);
    }
    if all.bases == 0 {
        return Err(ScoreError::NoBases {
            file: genome.path.display().to_string(),
        });
    }
    let tokens = stages.first().map_or(0, |stage| stage.tokens);
    Ok(LmReport {
        file: genome.path.display().to_string(),
        all: all.bits(),
        windows: tiles.len(),
        by_class: annotation.map_or_else(BTreeMap::new, |_| {
            let named = regions::CLASSES.iter().zip(&classes);
            named
                .filter(|(_, sums)| sums.bases > 0)
                .map(|(name, sums)| ((*name).to_owned(), sums.bits()))
                .collect()
        }),
        stages: stages
            .iter()
            .map(|stage| StageReport {
                selected: stage.chunks as f64 / stage.tokens.max(1) as f64,
                mean_probability: stage.probability / stage.tokens.max(1) as f64,
                bases_per_chunk: tokens as f64 / stage.chunks.max(1) as f64,
            })
            .collect(),
        baselines: baselines
            .iter()
            .zip(&markov)
            .map(|(chain, (bits, counted))| Baseline {
                order: chain.order(),
                bits_per_base: bits / (*counted).max(1) as f64,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;

    fn genome(contigs: &[&str]) -> Genome {
        let folder = tempfile::tempdir().expect("temporary folder");
        let record = |(i, bases): (usize, &&str)| format!(">c{i}\n{bases}\n");
        let text: String = contigs.iter().enumerate().map(record).collect();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, text).expect("writable");
        Genome::read(&path).expect("valid")
    }

    fn read(contigs: &[&str]) -> Result<LmReport, ScoreError> {
        let options = LmOptions {
            context: 4,
            max_bases: None,
        };
        let chain = [Markov::new(1)];
        evaluate(
            &engine(),
            &genome(contigs),
            None,
            &chain,
            &options,
            &mut |_, _| {},
        )
    }

    #[test]
    fn other_codes_and_empty_contigs_do_not_count() {
        let report = read(&["", "ACGTNNA", "NN"]).expect("bases");
        assert_eq!((report.all.bases, report.windows), (5, 3));
        assert!(report.all.bits_per_base > 0.0);
    }

    #[test]
    fn a_genome_without_bases_is_named_instead_of_perfect() {
        for contigs in [&["NNNNNN"][..], &[""]] {
            let error = read(contigs).expect_err("no bases").to_string();
            assert!(error.contains("g.fna"), "{error}");
        }
    }
}
