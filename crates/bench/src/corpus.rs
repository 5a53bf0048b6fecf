//! How fast training batches come from a corpus.

use std::time::{Duration, Instant};

use cistron_genome::alphabet::Alphabet;
use cistron_genome::corpus::Corpus;
use cistron_train::config::DataConfig;
use cistron_train::loader::Loader;
use cistron_train::sampler::Place;
use serde::Serialize;
use tch::Device;

use crate::error::BenchError;

/// What to read.
#[derive(Debug, Clone)]
pub struct CorpusOptions {
    /// Tokens of a row, and rows of a batch.
    pub data: DataConfig,
    /// How bases become tokens.
    pub alphabet: Alphabet,
    /// Batches under way at once, one measurement a number; 0 for none ahead.
    pub ahead: Vec<usize>,
    /// How long each measurement goes on.
    pub time: Duration,
}

/// How fast it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorpusResult {
    /// Batches under way at once, each on a thread.
    pub ahead: usize,
    /// Batches read.
    pub batches: u64,
    /// Bases read.
    pub bases: u64,
    /// Bases a second, ready on the device as the model takes them.
    pub bases_per_second: f64,
}

/// Reads the batches of a run, one after another, and nothing else.
///
/// # Errors
///
/// The corpus has nothing to train on, or cannot be read.
pub fn corpus(
    corpus: &Corpus,
    options: &CorpusOptions,
    device: Device,
    found: &mut dyn FnMut(&CorpusResult),
) -> Result<Vec<CorpusResult>, BenchError> {
    let mut results = Vec::new();
    for &ahead in &options.ahead {
        let loader = Loader::new(corpus, &options.data, options.alphabet, 0, device)?;
        let loader = loader.reading_ahead(ahead);
        let mut place = Place {
            step: 0,
            part: 0,
            parts: 1,
            rank: 0,
            world: 1,
        };
        let (mut batches, mut bases) = (0, 0);
        // The first batches bring the corpus into memory.
        for _ in 0..=ahead {
            loader.batch(place)?;
            place = place.next();
        }
        let started = Instant::now();
        while started.elapsed() < options.time || batches == 0 {
            let batch = loader.batch(place)?;
            bases += batch.lengths.iter().sum::<i64>() as u64;
            batches += 1;
            place = place.next();
        }
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
        let result = CorpusResult {
            ahead,
            batches,
            bases,
            bases_per_second: bases as f64 / started.elapsed().as_secs_f64(),
        };
        found(&result);
        results.push(result);
    }
    Ok(results)
}
