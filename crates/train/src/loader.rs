//! Batches from the corpus: drawn windows for training, fixed ones for validation.

mod ahead;
mod rows;

use std::sync::Arc;

use cistron_genome::alphabet::Alphabet;
use cistron_genome::corpus::{Corpus, Split};
use cistron_model::{Chunking, Config};
use tch::Device;

use crate::TrainError;
use crate::batch::{Batch, BatchBuilder};
use crate::config::{DataConfig, LongRangeConfig};
use crate::sampler::{Place, Sampler, Window};

use ahead::Ahead;
use rows::Rows;

/// The contigs of one split, long enough to have a target.
#[derive(Debug)]
struct Contigs {
    /// Indices of genome and contig.
    indices: Vec<(usize, usize)>,
    lengths: Vec<u64>,
    /// What each counts when windows are drawn.
    weights: Vec<u64>,
}

impl Contigs {
    fn of(corpus: &Corpus, split: Split, data: &DataConfig) -> Self {
        let mut contigs = Self {
            indices: Vec::new(),
            lengths: Vec::new(),
            weights: Vec::new(),
        };
        for (g, genome) in corpus.genomes().iter().enumerate() {
            let weight = match data.weigh_clusters {
                true => genome.weight,
                false => 1.0,
            };
            for (c, contig) in genome.contigs.iter().enumerate() {
                if genome.split == split && contig.length >= BatchBuilder::bases(1, data.bos) {
                    contigs.indices.push((g, c));
                    contigs.lengths.push(contig.length);
                    contigs
                        .weights
                        .push((contig.length as f64 * weight).ceil() as u64);
                }
            }
        }
        contigs
    }
}

/// Reads windows of a corpus into batches.
#[derive(Debug)]
pub struct Loader<'a> {
    corpus: &'a Corpus,
    data: DataConfig,
    device: Device,
    rows: Arc<Rows>,
    ahead: Ahead,
    validation: Contigs,
}

impl<'a> Loader<'a> {
    /// A loader whose batches lie on `device`.
    ///
    /// # Errors
    ///
    /// The corpus has no training bases.
    pub fn new(
        corpus: &'a Corpus,
        data: &DataConfig,
        alphabet: Alphabet,
        seed: u64,
        device: Device,
    ) -> Result<Self, TrainError> {
        let train = Contigs::of(corpus, Split::Train, data);
        let bases = BatchBuilder::bases(data.length, data.bos);
        let sampler = Sampler::weighted(
            &train.lengths,
            &train.weights,
            bases,
            data.reverse_complement,
            seed,
        )
        .ok_or_else(|| TrainError::Data {
            path: corpus.folder().to_owned(),
            problem: "no training genome has any bases; build it again with fewer --val".into(),
        })?;
        Ok(Self {
            corpus,
            data: data.clone(),
            device,
            rows: Arc::new(Rows {
                corpus: corpus.clone(),
                data: data.clone(),
                long_range: LongRangeConfig::default(),
                alphabet,
                contigs: train,
                sampler,
                marks: None,
            }),
            ahead: Ahead::default(),
            validation: Contigs::of(corpus, Split::Val, data),
        })
    }

    /// The same loader with windows for training over long ranges.
    #[must_use]
    pub fn with_long_range(mut self, long_range: &LongRangeConfig) -> Self {
        // The only handle: batches are not read ahead before the first is asked for.
        if let Some(rows) = Arc::get_mut(&mut self.rows) {
            rows.long_range = long_range.clone();
        }
        self
    }

    /// The same loader for a model of these chunks: where codons are chunks, tokens are marked.
    ///
    /// # Errors
    ///
    /// The corpus knows of no codons.
    pub fn with_chunks_of(mut self, model: &Config) -> Result<Self, TrainError> {
        if model.cistron.chunking == Chunking::Codons {
            if !self.corpus.has_codons() {
                return Err(TrainError::Data {
                    path: self.corpus.folder().to_owned(),
                    problem: "no annotation, and model.cistron.chunking = \"codons\" needs one; \
                              build it again with --codons"
                        .into(),
                });
            }
            if let Some(rows) = Arc::get_mut(&mut self.rows) {
                rows.marks = u8::try_from(model.vocab_size).ok();
            }
        }
        Ok(self)
    }

    /// The same loader, which reads up to `batches` batches ahead, each on a thread.
    #[must_use]
    pub fn reading_ahead(mut self, batches: usize) -> Self {
        self.ahead = Ahead::new(batches);
        self
    }

    /// Bases of the contigs that are trained on.
    pub fn train_bases(&self) -> u64 {
        self.rows.contigs.lengths.iter().sum()
    }

    /// The batch at one place of the run.
    ///
    /// # Errors
    ///
    /// The corpus cannot be read.
    pub fn batch(&self, place: Place) -> Result<Batch, TrainError> {
        Ok(self
            .ahead
            .batch(&self.rows, place, self.device)?
            .to_device(self.device))
    }

    /// Batches of evenly spaced windows over the validation genomes with about
    /// `tokens` targets, always the same; none without validation genomes.
    pub fn validation(&self, tokens: u64) -> impl Iterator<Item = Result<Batch, TrainError>> + '_ {
        let bases = BatchBuilder::bases(self.data.length, self.data.bos);
        let windows = spaced(&self.validation.lengths, self.data.length, bases, tokens);
        let batch = usize::try_from(self.data.batch).unwrap_or(usize::MAX);
        let batches: Vec<Vec<Window>> = windows.chunks(batch).map(<[Window]>::to_vec).collect();
        batches
            .into_iter()
            .map(|windows| self.read_validation(&windows))
    }

    fn read_validation(&self, windows: &[Window]) -> Result<Batch, TrainError> {
        let mut builder = self.rows.builder();
        let mut bases = Vec::new();
        for window in windows {
            let (genome, contig) = self.validation.indices[window.contig];
            let range = window.start..window.start + window.length;
            let contig = self.corpus.contig(genome, contig);
            self.rows.letters(contig, range, false, &mut bases)?;
            builder.push(&bases);
            builder.end_row();
        }
        Ok(builder.finish(self.device))
    }
}

/// Forward windows of `bases` bases with about `tokens` targets in all: evenly spaced, or,
/// where there is no more than that, end to end every `stride` bases.
fn spaced(contigs: &[u64], stride: u64, bases: u64, tokens: u64) -> Vec<Window> {
    let overlap = bases - stride;
    let tiles = |length: &u64| (length - length.min(&overlap)).div_ceil(stride);
    let count = tokens.div_ceil(stride);
    if contigs.iter().map(tiles).sum::<u64>() <= count {
        let tile = |contig: usize, length: u64, i: u64| Window {
            contig,
            start: i * stride,
            length: bases.min(length - i * stride),
            reverse: false,
        };
        return contigs
            .iter()
            .enumerate()
            .flat_map(|(contig, &length)| (0..tiles(&length)).map(move |i| tile(contig, length, i)))
            .collect();
    }
    let total: u64 = contigs.iter().sum();
    let mut windows: Vec<Window> = Vec::new();
    let (mut contig, mut before) = (0, 0);
    for k in 0..count {
        let base = (u128::from(total) * u128::from(k) / u128::from(count)) as u64;
        while base >= before + contigs[contig] {
            before += contigs[contig];
            contig += 1;
        }
        let length = bases.min(contigs[contig]);
        let start = (base - before).min(contigs[contig] - length);
        windows.push(Window {
            contig,
            start,
            length,
            reverse: false,
        });
    }
    windows.dedup();
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use cistron_genome::revcomp;

    fn loader<'a>(corpus: &'a Corpus, data: &DataConfig) -> Loader<'a> {
        Loader::new(corpus, data, Alphabet::Dna, 3, Device::Cpu).unwrap()
    }

    #[test]
    fn batches_hold_the_bases_of_their_windows() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let data = DataConfig {
            length: 64,
            batch: 5,
            pack: false,
            ..DataConfig::default()
        };
        let loader = loader(&corpus, &data).reading_ahead(2);
        let mut short = 0;
        for step in 0..40 {
            let place = Place {
                step,
                part: 0,
                parts: 1,
                rank: 0,
                world: 1,
            };
            let batch = loader.batch(place).unwrap();
            let tokens = Vec::<i64>::try_from(&batch.tokens).unwrap();
            let mut at = 0;
            for (i, &length) in (0u64..).zip(&batch.lengths) {
                let window = loader.rows.sampler.window(place.number(i, 5));
                let mut bases = Vec::new();
                corpus
                    .contig(0, window.contig)
                    .read(window.start..window.start + window.length, &mut bases)
                    .unwrap();
                if window.reverse {
                    bases = revcomp(&bases);
                }
                assert_eq!(length, bases.len() as i64);
                short += u64::from(length == 20);
                assert_eq!(tokens[at], 5);
                let seen: Vec<i64> = bases
                    .iter()
                    .map(|&base| i64::from(Alphabet::Dna.encode(base)))
                    .collect();
                assert_eq!(tokens[at + 1..at + bases.len()], seen[..bases.len() - 1]);
                at += bases.len();
            }
            assert_eq!(at, tokens.len());
        }
        assert!(
            short > 0,
            "the contig of 20 bases is taken whole now and then"
        );
    }

    #[test]
    fn validation_covers_small_genomes_once_and_samples_large_ones() {
        for overlap in [0, 1] {
            let tiled = spaced(&[25, 10, 1 + overlap], 10, 10 + overlap, 1000);
            let targets: u64 = tiled.iter().map(|window| window.length - overlap).sum();
            assert_eq!(targets, 36 - 2 * overlap, "{tiled:?}");
        }
        let sampled = spaced(&[1000, 5, 500], 10, 10, 95);
        assert_eq!(sampled.len(), 10);
        assert_eq!(sampled[1].start, 150);
        assert!(
            sampled
                .iter()
                .all(|w| w.start + w.length <= [1000, 5, 500][w.contig])
        );
        assert!(spaced(&[], 10, 10, 95).is_empty());
    }

    #[test]
    fn validation_batches_are_the_held_out_genome() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let data = DataConfig {
            length: 64,
            batch: 2,
            bos: false,
            ..DataConfig::default()
        };
        let loader = loader(&corpus, &data);
        let batches: Vec<Batch> = loader.validation(10_000).map(Result::unwrap).collect();
        let tokens: i64 = batches.iter().flat_map(|batch| &batch.lengths).sum();
        assert_eq!(tokens, 399);
        assert_eq!(batches.len(), 4);
        assert_eq!(loader.validation(128).map(Result::unwrap).count(), 1);
    }
}
