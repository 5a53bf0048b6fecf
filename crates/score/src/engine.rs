//! Runs a model over many sequences on worker threads, one sequence at a time.
//!
//! A result depends on its sequence alone: no batch is formed, and libtorch uses
//! one thread a worker, so neither batch-mates nor the number of threads can
//! change how sums are split.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cistron_genome::alphabet::Alphabet;
use cistron_model::{HNet, State};
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
    /// Whether many tails are read in one pass.
    packs: bool,
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
            packs: model.device() != Device::Cpu,
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

    /// How many times more a caller should hand over at once than on the CPU, so that passes
    /// are full; results do not depend on it on the CPU, and within a tolerance on a GPU.
    pub fn appetite(&self) -> usize {
        if self.packs { 16 } else { 1 }
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

    /// Natural log-likelihood of every base of every branch's tails: fp32, as `[branch][tail][base]`.
    ///
    /// On the CPU tails are read one by one, so that none depends on the others to the last bit;
    /// on a GPU many are packed into one pass.
    ///
    /// # Errors
    ///
    /// A likelihood is not a finite number.
    pub fn branches(&self, branches: &[Branch]) -> Result<Vec<Vec<Vec<f32>>>, ScoreError> {
        if !self.packs {
            return self.map(branches, |model, branch| {
                let prefix = self.read_prefixes(model, std::slice::from_ref(branch));
                branch
                    .tails
                    .iter()
                    .map(|tail| {
                        let values = self.read_tails(model, &prefix, &[(0, tail)])?;
                        Ok(values.into_iter().next().expect("one tail was read"))
                    })
                    .collect()
            });
        }
        let packs: Vec<&[Branch]> = packs(branches);
        let values = self.map(&packs, |model, pack| {
            let prefixes = self.read_prefixes(model, pack);
            let tails = pack
                .iter()
                .enumerate()
                .flat_map(|(i, branch)| branch.tails.iter().map(move |tail| (i as i64, tail)));
            let tails: Vec<Tail<'_>> = tails.collect();
            let mut values = Vec::with_capacity(tails.len());
            for tails in tails.chunk_by(same_pack(PACK)) {
                values.extend(self.read_tails(model, &prefixes, tails)?);
            }
            let mut values = values.into_iter();
            Ok(pack
                .iter()
                .map(|branch| values.by_ref().take(branch.tails.len()).collect())
                .collect::<Vec<Vec<Vec<f32>>>>())
        })?;
        Ok(values.into_iter().flatten().collect())
    }

    fn tokens<'a>(&self, bases: impl IntoIterator<Item = &'a u8>) -> Vec<i64> {
        let encode = |&base: &u8| i64::from(self.alphabet.encode(base));
        bases.into_iter().map(encode).collect()
    }

    fn read_prefixes(&self, model: &HNet, branches: &[Branch]) -> Prefixes {
        let bos = i64::from(self.alphabet.bos());
        let lengths: Vec<i64> = branches.iter().map(|b| b.prefix.len() as i64 + 1).collect();
        let tokens: Vec<i64> = branches
            .iter()
            .flat_map(|b| std::iter::once(bos).chain(self.tokens(&b.prefix)))
            .collect();
        let (output, state) = model.forward_from(&Tensor::from_slice(&tokens), &lengths, None);
        let mut end = 0;
        let last: Vec<i64> = lengths
            .iter()
            .map(|length| {
                end += length;
                end - 1
            })
            .collect();
        let last = Tensor::from_slice(&last).to_device(model.device());
        Prefixes {
            next: output.logits.index_select(0, &last),
            state,
        }
    }

    /// Log-likelihoods of tails, each with the number of its prefix.
    fn read_tails(
        &self,
        model: &HNet,
        prefixes: &Prefixes,
        tails: &[Tail<'_>],
    ) -> Result<Vec<Vec<f32>>, ScoreError> {
        let rows: Vec<i64> = tails.iter().map(|&(row, _)| row).collect();
        let lengths: Vec<i64> = tails.iter().map(|(_, tail)| tail.len() as i64).collect();
        let tokens = self.tokens(tails.iter().flat_map(|(_, tail)| tail.iter()));
        let tokens = Tensor::from_slice(&tokens);
        let state = prefixes.state.select(&rows);
        let (output, _) = model.forward_from(&tokens, &lengths, Some(&state));
        // Each base is told by the token before it: the first of a tail by the prefix's last.
        let mut source = Vec::with_capacity(tokens.size()[0] as usize);
        let (mut at, known) = (0, prefixes.next.size()[0]);
        for (&row, &length) in rows.iter().zip(&lengths) {
            source.push(row);
            source.extend((at..at + length - 1).map(|token| known + token));
            at += length;
        }
        let source = Tensor::from_slice(&source).to_device(model.device());
        let values = Tensor::cat(&[&prefixes.next, &output.logits], 0)
            .to_kind(Kind::Float)
            .log_softmax(-1, Kind::Float)
            .index_select(0, &source)
            .gather(1, &tokens.to_device(model.device()).unsqueeze(1), false)
            .squeeze_dim(1);
        let values = floats(&values);
        let mut rest = values.as_slice();
        tails
            .iter()
            .map(|(_, tail)| {
                let (values, after) = rest.split_at(tail.len());
                rest = after;
                finite(values, tail.len())?;
                Ok(values.to_vec())
            })
            .collect()
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
        finite(&log_likelihoods, bases.len())?;
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

/// Sequences that begin alike.
#[derive(Debug, Clone, Default)]
pub struct Branch {
    /// What they have in common; read once.
    pub prefix: Vec<u8>,
    /// What follows it in each; none is empty.
    pub tails: Vec<Vec<u8>>,
}

/// Tokens that are read in one pass on a GPU.
const PACK: usize = 1 << 20;

struct Prefixes {
    /// Scores of the base after each prefix: `[prefixes, vocabulary]`.
    next: Tensor,
    state: State,
}

/// Runs of branches whose prefixes fit one pass.
fn packs(branches: &[Branch]) -> Vec<&[Branch]> {
    let mut total = 0;
    branches
        .chunk_by(|before, next| {
            total += before.prefix.len() + 1;
            let fits = total + next.prefix.len() < PACK;
            if !fits {
                total = 0;
            }
            fits
        })
        .collect()
}

/// A tail with the number of its prefix.
type Tail<'a> = (i64, &'a Vec<u8>);

fn same_pack<'a>(limit: usize) -> impl FnMut(&Tail<'a>, &Tail<'a>) -> bool {
    let mut total = 0;
    move |before, next| {
        total += before.1.len();
        let fits = total + next.1.len() <= limit;
        if !fits {
            total = 0;
        }
        fits
    }
}

fn finite(values: &[f32], length: usize) -> Result<(), ScoreError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ScoreError::NotFinite {
            base: at + 1,
            length,
            value: values[at],
        }),
    }
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

    #[test]
    fn tails_are_read_as_the_whole_sequences_are() {
        let mut engine = engine();
        let bases: Vec<u8> = (0u32..700)
            .map(|i| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 4])
            .collect();
        let branches: Vec<Branch> = [0, 1, 255, 256, 300, 511]
            .iter()
            .map(|&cut| Branch {
                prefix: bases[..cut].to_vec(),
                tails: vec![
                    bases[cut..].to_vec(),
                    bases[cut..cut + 1].to_vec(),
                    [b"GATTACA", &bases[cut..cut + 90]].concat(),
                ],
            })
            .collect();
        let one_by_one = engine.branches(&branches).expect("read");
        engine.packs = true;
        let packed = engine.branches(&branches).expect("read");
        for (i, branch) in branches.iter().enumerate() {
            for (j, tail) in branch.tails.iter().enumerate() {
                let whole = [branch.prefix.as_slice(), tail].concat();
                let whole = engine.log_likelihoods(&[whole]).expect("read");
                let expected = &whole[0][branch.prefix.len()..];
                for found in [&one_by_one[i][j], &packed[i][j]] {
                    assert_eq!(found.len(), tail.len());
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
                    }
                }
            }
        }
        // To the last bit a tail is read as it is alone.
        engine.packs = false;
        for (branch, values) in branches.iter().zip(&one_by_one) {
            for (tail, values) in branch.tails.iter().zip(values) {
                let alone = Branch {
                    prefix: branch.prefix.clone(),
                    tails: vec![tail.clone()],
                };
                assert_eq!(&engine.branches(&[alone]).expect("read")[0][0], values);
            }
        }
    }
}
