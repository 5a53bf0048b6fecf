//! Language-model evaluation: bits per base of genomes, beside Markov chains.

use std::collections::BTreeMap;

use cistron_genome::corpus::genome_name;
use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::ScoreError;
use crate::markov::Markov;
use crate::regions;

/// What of a genome is read.
#[derive(Debug, Clone, Default)]
pub enum Slice {
    /// All of it.
    #[default]
    All,
    /// A part of the longest contig, the first of these where several are.
    Longest {
        /// First base, from 0.
        start: u64,
        /// Number of bases; those to the contig's end when none, or where it has fewer.
        bases: Option<u64>,
    },
    /// A part of one contig.
    Part {
        /// Its name.
        contig: String,
        /// First base, from 0.
        start: u64,
        /// One past the last base.
        end: u64,
    },
}

/// How a genome is read.
#[derive(Debug, Clone)]
pub struct LmOptions {
    /// Bases a window; each starts from BOS.
    pub window: usize,
    /// Bases of its contig that a base is told from at least, where the contig has so many
    /// before it: each window overlaps the one before by so much.
    pub context: usize,
    /// What is read.
    pub slice: Slice,
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
    /// Name of the genome: the file's without its endings.
    pub name: String,
    /// Where a slice lies; none when all was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<Span>,
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
    /// The same figures under `markov` with the order.
    #[serde(flatten)]
    pub by_order: BTreeMap<String, f64>,
}

/// A part of a contig.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its name.
    pub contig: String,
    /// First base, from 0.
    pub start: u64,
    /// One past the last base.
    pub end: u64,
}

struct Tile {
    contig: usize,
    /// First base that is read.
    from: usize,
    /// First base that counts.
    start: usize,
    end: usize,
}

/// Contigs with the bases that count.
fn spans(
    genome: &Genome,
    slice: &Slice,
) -> Result<Vec<(usize, std::ops::Range<usize>)>, ScoreError> {
    let fail = |contig: usize, what: String| {
        let (file, contig) = (genome.path.display(), &genome.contigs[contig]);
        let (name, length) = (&contig.name, contig.bases.len());
        ScoreError::Setting(format!("{file}: {what}: {name} has {length} bases"))
    };
    match slice {
        Slice::All => {
            let all = genome.contigs.iter().enumerate();
            Ok(all.map(|(i, contig)| (i, 0..contig.bases.len())).collect())
        }
        Slice::Longest { start, bases } => {
            let lengths = genome.contigs.iter().map(|contig| contig.bases.len());
            // The last of equals in reverse order is the first.
            let longest = lengths.enumerate().rev().max_by_key(|(_, length)| *length);
            let Some((contig, length)) = longest else {
                return Ok(Vec::new());
            };
            if *start >= length as u64 {
                return Err(fail(contig, format!("--start {start} (from 0)")));
            }
            let end = bases.map_or(u64::MAX, |bases| start.saturating_add(bases));
            Ok(vec![(
                contig,
                *start as usize..end.min(length as u64) as usize,
            )])
        }
        Slice::Part { contig, start, end } => {
            let index = genome
                .require(contig)
                .map_err(|error| ScoreError::Setting(error.to_string()))?;
            if *end > genome.contigs[index].bases.len() as u64 {
                return Err(fail(index, format!("{contig}:{}-{end}", start + 1)));
            }
            Ok(vec![(index, *start as usize..*end as usize)])
        }
    }
}

fn tiles(spans: &[(usize, std::ops::Range<usize>)], options: &LmOptions) -> Vec<Tile> {
    let stride = options.window - options.context;
    let mut tiles = Vec::new();
    for (contig, range) in spans {
        for start in range.clone().step_by(stride) {
            tiles.push(Tile {
                contig: *contig,
                from: start.saturating_sub(options.context),
                start,
                end: (start + stride).min(range.end),
            });
        }
    }
    if let Some(max) = options.max_bases {
        let wanted = (max as usize).div_ceil(stride).max(1);
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
/// A window leaves no base beyond its context, the slice is not in the genome, a likelihood
/// is not finite, or the windows hold no A, C, G or T.
pub fn evaluate(
    engine: &Engine,
    genome: &Genome,
    annotation: Option<&Annotation>,
    baselines: &[Markov],
    options: &LmOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LmReport, ScoreError> {
    if options.window <= options.context {
        return Err(ScoreError::Setting(format!(
            "--window {}: expected more bases than --context {}",
            options.window, options.context
        )));
    }
    let spans = spans(genome, &options.slice)?;
    let tiles = tiles(&spans, options);
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
                &genome.contigs[tile.contig].bases[tile.from..tile.end],
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
            let values = &reading.log_likelihoods[tile.start - tile.from..];
            for (i, (base, value)) in bases.iter().zip(values).enumerate() {
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
    let baselines: Vec<Baseline> = baselines
        .iter()
        .zip(&markov)
        .map(|(chain, (bits, counted))| Baseline {
            order: chain.order(),
            bits_per_base: bits / (*counted).max(1) as f64,
        })
        .collect();
    let span = |(contig, range): &(usize, std::ops::Range<usize>)| Span {
        contig: genome.contigs[*contig].name.to_string(),
        start: range.start as u64,
        end: range.end as u64,
    };
    Ok(LmReport {
        file: genome.path.display().to_string(),
        name: genome_name(&genome.path),
        slice: match options.slice {
            Slice::All => None,
            _ => spans.first().map(span),
        },
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
        by_order: baselines
            .iter()
            .map(|chain| (format!("markov{}", chain.order), chain.bits_per_base))
            .collect(),
        baselines,
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
        with(contigs, 4, 0, Slice::All)
    }

    fn with(
        contigs: &[&str],
        window: usize,
        context: usize,
        slice: Slice,
    ) -> Result<LmReport, ScoreError> {
        let options = LmOptions {
            window,
            context,
            slice,
            max_bases: None,
        };
        let chain = [Markov::new(1)];
        let genome = genome(contigs);
        evaluate(&engine(), &genome, None, &chain, &options, &mut |_, _| {})
    }

    const LONG: &str = "ACGTTGCANCGATTACAGATTACACCGGATATCGACTGACTTGACCATTGACCAGTA";

    #[test]
    fn a_slice_is_told_from_its_context() {
        let (start, bases, context) = (20, 25, 8);
        let slice = Slice::Longest {
            start: start as u64,
            bases: Some(bases as u64),
        };
        let report = with(&["ACGT", LONG, "GG"], 15, context, slice).expect("bases");
        let engine = engine();
        let mut nats = 0.0;
        for from in (start..start + bases).step_by(7) {
            let end = (from + 7).min(start + bases);
            let window = &LONG.as_bytes()[from - context..end];
            let values = engine.log_likelihoods(&[window]).expect("read").remove(0);
            nats -= values[context..].iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        let expected = nats / std::f64::consts::LN_2 / bases as f64;
        assert!((report.all.bits_per_base - expected).abs() < 1e-9);
        assert_eq!((report.all.bases, report.windows), (25, 4));
        let span = report.slice.expect("a slice");
        assert_eq!((span.contig.as_str(), span.start, span.end), ("c1", 20, 45));
        assert_eq!(
            report.by_order["markov1"],
            report.baselines[0].bits_per_base
        );
    }

    #[test]
    fn slices_end_with_their_contig_and_name_it_when_outside() {
        let slice = |start, bases| Slice::Longest { start, bases };
        let part = |contig: &str, start, end| Slice::Part {
            contig: contig.into(),
            start,
            end,
        };
        let bases = |slice| with(&["ACGTACGT"], 4, 2, slice).map(|report| report.all.bases);
        assert_eq!(bases(slice(5, Some(9))).expect("bases"), 3);
        assert_eq!(bases(slice(5, None)).expect("bases"), 3);
        assert_eq!(bases(part("c0", 1, 8)).expect("bases"), 7);
        for bad in [slice(8, None), part("c0", 3, 9), part("c9", 0, 1)] {
            let error = bases(bad).expect_err("outside").to_string();
            assert!(error.contains("g.fna"), "{error}");
        }
        let error = with(&["ACGT"], 4, 4, Slice::All).expect_err("no room");
        assert!(error.to_string().contains("--window 4"), "{error}");
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
