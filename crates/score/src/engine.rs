//! Runs a model over many sequences on worker threads, one sequence at a time.
//!
//! A result depends on its sequence alone: no batch is formed, and libtorch uses
//! one thread a worker, so neither batch-mates nor the number of threads can
//! change how sums are split.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cistron_genome::alphabet::Alphabet;
use cistron_model::HNet;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::ScoreError;

/// A model with its worker threads.
pub struct Engine {
    workers: Vec<Mutex<HNet>>,
    pool: rayon::ThreadPool,
    alphabet: Alphabet,
    context: usize,
    stages: usize,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// Starts `threads` workers around `model`; on a GPU one feeds it.
    ///
    /// On the CPU this sets libtorch to one thread an operation, for the whole process.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub fn new(model: &HNet, threads: usize) -> Result<Self, ScoreError> {
        let threads = if model.device() == Device::Cpu {
            threads.max(1)
        } else {
            1
        };
        if model.device() == Device::Cpu {
            tch::set_num_threads(1);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("score-{i}"))
            .build()
            .map_err(|error| ScoreError::Threads {
                threads,
                reason: error.to_string(),
            })?;
        let workers = (0..threads)
            .map(|_| Mutex::new(model.shallow_clone()))
            .collect();
        let context = usize::try_from(model.config().cistron.context).unwrap_or(0);
        let stages = model.config().stages() - 1;
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Self {
            workers,
            pool,
            alphabet: model.config().alphabet(),
            context,
            stages,
            stop,
        })
    }

    /// Ends runs early when `stop` is set: they return [`ScoreError::Stopped`].
    #[must_use]
    pub fn with_stop(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// How the model sees bases.
    pub fn alphabet(&self) -> Alphabet {
        self.alphabet
    }

    /// The longest context the model was trained on, in bases; 0 when unknown.
    pub fn trained_context(&self) -> usize {
        self.context
    }

    /// Number of chunking stages.
    pub fn stages(&self) -> usize {
        self.stages
    }

    /// Number of workers.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Applies `f` to every item on the workers; results come in the order of the items.
    ///
    /// # Errors
    ///
    /// The first error by the order of the items, or [`ScoreError::Stopped`].
    pub fn map<I: Sync, T: Send>(
        &self,
        items: &[I],
        f: impl Fn(&HNet, &I) -> Result<T, ScoreError> + Sync,
    ) -> Result<Vec<T>, ScoreError> {
        // Also where there is no item that would ask.
        if self.stop.load(Ordering::Relaxed) {
            return Err(ScoreError::Stopped);
        }
        let results: Vec<Result<T, ScoreError>> = self.pool.install(|| {
            items
                .par_iter()
                .with_max_len(1)
                .map(|item| {
                    if self.stop.load(Ordering::Relaxed) {
                        return Err(ScoreError::Stopped);
                    }
                    let worker = rayon::current_thread_index().unwrap_or(0);
                    let model = self.workers[worker]
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    let _guard = tch::no_grad_guard();
                    f(&model, item)
                })
                .collect()
        });
        results.into_iter().collect()
    }

    /// Natural log-likelihood of every base given those before it, BOS first: fp32.
    ///
    /// # Errors
    ///
    /// A likelihood is not a finite number.
    pub fn log_likelihoods<S: AsRef<[u8]> + Sync>(
        &self,
        sequences: &[S],
    ) -> Result<Vec<Vec<f32>>, ScoreError> {
        self.map(sequences, |model, sequence| {
            Ok(self.read(model, sequence.as_ref())?.log_likelihoods)
        })
    }

    /// One pass over a sequence.
    ///
    /// # Errors
    ///
    /// A likelihood is not a finite number.
    pub fn read(&self, model: &HNet, bases: &[u8]) -> Result<Reading, ScoreError> {
        let alphabet = self.alphabet;
        let mut tokens = Vec::with_capacity(bases.len() + 1);
        tokens.push(i64::from(alphabet.bos()));
        tokens.extend(bases.iter().map(|&base| i64::from(alphabet.encode(base))));
        let tokens = Tensor::from_slice(&tokens);
        let length = bases.len() as i64;
        let output = model.forward(&tokens, &[length + 1]);
        let targets = tokens
            .narrow(0, 1, length)
            .to_device(model.device())
            .unsqueeze(1);
        let log_likelihoods = output
            .logits
            .narrow(0, 0, length)
            .to_kind(Kind::Float)
            .log_softmax(-1, Kind::Float)
            .gather(1, &targets, false)
            .squeeze_dim(1);
        let log_likelihoods = floats(&log_likelihoods);
        if let Some((at, &value)) = log_likelihoods
            .iter()
            .enumerate()
            .find(|(_, value)| !value.is_finite())
        {
            return Err(ScoreError::NotFinite {
                base: at + 1,
                length: bases.len(),
                value,
            });
        }
        let stages = output
            .routing
            .iter()
            .map(|routing| Routed {
                prob: floats(&routing.prob),
                mask: Vec::<bool>::try_from(routing.mask.to_device(Device::Cpu))
                    .expect("a mask is bool and has one dimension"),
            })
            .collect();
        Ok(Reading {
            log_likelihoods,
            stages,
        })
    }
}

/// What a model says of one sequence.
#[derive(Debug)]
pub struct Reading {
    /// Natural log-likelihood of each base.
    pub log_likelihoods: Vec<f32>,
    /// What each router decided, outermost first.
    pub stages: Vec<Routed>,
}

/// Decisions of one router; the first token of stage 0 is BOS, then come the bases.
#[derive(Debug)]
pub struct Routed {
    /// Boundary probability of each token of the stage.
    pub prob: Vec<f32>,
    /// Whether a chunk starts there.
    pub mask: Vec<bool>,
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu).contiguous())
        .expect("an fp32 tensor of one dimension")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cistron_model::Config;

    /// An engine around a small random model with one router.
    pub(crate) fn engine() -> Engine {
        let text = r#"{"arch_layout": ["m1", ["T1"], "m1"], "d_model": [16, 16],
            "d_intermediate": [0, 128], "vocab_size": 8,
            "ssm_cfg": {"d_state": 4, "headdim": 8}, "attn_cfg":
            {"num_heads": 2, "rotary_emb_dim": 4, "window_size": -1}}"#;
        let config = Config::from_json(text, "config.json".as_ref()).expect("valid");
        let model = HNet::new(&config, 1, Device::Cpu).expect("valid");
        Engine::new(&model, 2).expect("threads")
    }

    #[test]
    fn a_stopped_engine_says_so_even_without_work() {
        let engine = engine();
        assert!(
            engine
                .log_likelihoods::<&[u8]>(&[])
                .expect("no work")
                .is_empty()
        );
        let engine = engine.with_stop(Arc::new(AtomicBool::new(true)));
        for work in [&[][..], &[b"ACGT"]] {
            let result = engine.log_likelihoods::<&[u8; 4]>(work);
            assert!(matches!(result, Err(ScoreError::Stopped)));
        }
    }

    #[test]
    fn a_sequence_without_bases_has_no_likelihoods() {
        let values = engine().log_likelihoods(&[&b""[..], b"A"]).expect("read");
        assert_eq!(values.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_score_depends_on_its_sequence_alone() {
        let engine = engine();
        let sequences: Vec<Vec<u8>> = (1..40)
            .map(|i| {
                b"ACGGTTANC"
                    .iter()
                    .copied()
                    .cycle()
                    .skip(i % 7)
                    .take(13 * i)
                    .collect()
            })
            .collect();
        let together = engine.log_likelihoods(&sequences).expect("read");
        for (sequence, values) in sequences.iter().zip(&together) {
            assert_eq!(
                &engine.log_likelihoods(&[sequence]).expect("read")[0],
                values
            );
        }
    }
}
