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
use crate::relatives::Relatives;

/// A model with its worker threads.
pub struct Engine {
    workers: Vec<Mutex<HNet>>,
    pool: rayon::ThreadPool,
    alphabet: Alphabet,
    context: usize,
    stages: usize,
    /// Whether many tails are read in one pass.
    packs: bool,
    relatives: Option<Relatives>,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// Starts `threads` workers around `model`; two feed a GPU, so that it does not wait for one
    /// that prepares or takes over.
    ///
    /// On the CPU this sets libtorch to one thread an operation, for the whole process.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub fn new(model: &HNet, threads: usize) -> Result<Self, ScoreError> {
        let threads = match model.device() {
            Device::Cpu => threads.max(1),
            _ => 2,
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
            relatives: None,
            stop,
        })
    }

    /// Ends runs early when `stop` is set: they return [`ScoreError::Stopped`].
    #[must_use]
    pub fn with_stop(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Lets related genomes take part in all log-likelihoods.
    #[must_use]
    pub fn with_relatives(self, relatives: Relatives) -> Self {
        let relatives = Some(relatives);
        Self { relatives, ..self }
    }

    /// Whether related genomes take part.
    pub fn has_relatives(&self) -> bool {
        self.relatives.is_some()
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

    /// Natural log-likelihoods of what every branch holds: fp32.
    ///
    /// On the CPU branches and tails are read one by one, so that none depends on the others to
    /// the last bit; on a GPU many are packed into one pass.
    ///
    /// # Errors
    ///
    /// A likelihood is not a finite number.
    pub fn branches(&self, branches: &[Branch]) -> Result<Vec<Read>, ScoreError> {
        let packs: Vec<&[Branch]> = if self.packs {
            packs(branches)
        } else {
            branches.chunks(1).collect()
        };
        let values = self.map(&packs, |model, pack| self.read_pack(model, pack))?;
        let mut values: Vec<Read> = values.into_iter().flatten().collect();
        if let Some(relatives) = &self.relatives {
            let read = values.par_iter_mut().zip(branches);
            read.for_each(|(read, branch)| relatives.mix(branch, read));
        }
        Ok(values)
    }

    fn tokens<'a>(&self, bases: impl IntoIterator<Item = &'a u8>) -> Vec<i64> {
        let encode = |&base: &u8| i64::from(self.alphabet.encode(base));
        bases.into_iter().map(encode).collect()
    }

    fn read_pack(&self, model: &HNet, pack: &[Branch]) -> Result<Vec<Read>, ScoreError> {
        let mut values: Vec<Read> = pack.iter().map(Read::of).collect();
        let mut reached = self.read_prefixes(model, pack);
        // The branch of each row of `reached`.
        let mut rows: Vec<usize> = (0..pack.len()).collect();
        for step in 0.. {
            let tails: Vec<(i64, usize, usize)> = (0..)
                .zip(&rows)
                .flat_map(|(row, &branch)| {
                    let here = |&(_, tail): &(usize, &Tail)| tail.step == step;
                    let tails = pack[branch].tails.iter().enumerate().filter(here);
                    tails.map(move |(tail, _)| (row, branch, tail))
                })
                .collect();
            let length = |&(_, branch, tail): &(i64, usize, usize)| -> usize {
                pack[branch].tails[tail].bases.len()
            };
            for some in tails.chunk_by(self.fitting(&reached, length)) {
                let rows: Vec<i64> = some.iter().map(|&(row, ..)| row).collect();
                let pieces: Vec<&[u8]> = some
                    .iter()
                    .map(|&(_, branch, tail)| pack[branch].tails[tail].bases.as_slice())
                    .collect();
                let (found, _) = self.read_on(model, &reached, &rows, &pieces, false)?;
                for (&(_, branch, tail), found) in some.iter().zip(found) {
                    values[branch].tails[tail] = found;
                }
            }
            let start = step * STEP;
            let further: Vec<(i64, usize)> = (0..)
                .zip(&rows)
                .filter(|&(_, &branch)| pack[branch].reference.len() > start)
                .map(|(row, &branch)| (row, branch))
                .collect();
            if further.is_empty() {
                break;
            }
            let pieces: Vec<&[u8]> = further
                .iter()
                .map(|&(_, branch)| {
                    let rest = &pack[branch].reference[start..];
                    &rest[..rest.len().min(STEP)]
                })
                .collect();
            let from: Vec<i64> = further.iter().map(|&(row, _)| row).collect();
            let (found, next) = self.read_on(model, &reached, &from, &pieces, true)?;
            rows = further.into_iter().map(|(_, branch)| branch).collect();
            for (&branch, found) in rows.iter().zip(found) {
                values[branch].reference.extend(found);
            }
            reached = next.expect("reading goes on");
        }
        Ok(values)
    }

    /// Cuts tails into runs that one pass reads, by tokens and by the memory of their states.
    fn fitting<'a, T>(
        &self,
        reached: &Reached,
        length: impl Fn(&T) -> usize + 'a,
    ) -> impl FnMut(&T, &T) -> bool + 'a {
        let row = reached.state.bytes() / reached.state.sequences().max(1) as u64;
        let (tokens, rows) = match self.packs {
            true => (PACK, (PACK_STATES / row.max(1)) as usize),
            false => (0, 0),
        };
        let (mut total, mut count) = (0, 1);
        move |before, next| {
            total += length(before);
            count += 1;
            let fits = total + length(next) <= tokens && count <= rows;
            if !fits {
                (total, count) = (0, 1);
            }
            fits
        }
    }

    fn read_prefixes(&self, model: &HNet, branches: &[Branch]) -> Reached {
        let bos = i64::from(self.alphabet.bos());
        let lengths: Vec<i64> = branches.iter().map(|b| b.prefix.len() as i64 + 1).collect();
        let tokens: Vec<i64> = branches
            .iter()
            .flat_map(|b| std::iter::once(bos).chain(self.tokens(&b.prefix)))
            .collect();
        let (output, state) = model.forward_from(&Tensor::from_slice(&tokens), &lengths, None);
        Reached {
            next: last_rows(&output.logits, &lengths),
            state,
        }
    }

    /// Reads pieces, each after the row of `reached` with its number: their log-likelihoods, and
    /// what is reached then if something is to `go_on` from there. No piece is empty.
    fn read_on(
        &self,
        model: &HNet,
        reached: &Reached,
        rows: &[i64],
        pieces: &[&[u8]],
        go_on: bool,
    ) -> Result<(Vec<Vec<f32>>, Option<Reached>), ScoreError> {
        let lengths: Vec<i64> = pieces.iter().map(|piece| piece.len() as i64).collect();
        let tokens = self.tokens(pieces.iter().copied().flatten());
        let tokens = Tensor::from_slice(&tokens);
        // All rows in their order are what is there.
        let all = (0..reached.state.sequences()).eq(rows.iter().copied());
        let selected;
        let state = if all {
            &reached.state
        } else {
            selected = reached.state.select(rows);
            &selected
        };
        let (output, next) = if go_on {
            let (output, state) = model.forward_from(&tokens, &lengths, Some(state));
            let next = last_rows(&output.logits, &lengths);
            (output, Some(Reached { next, state }))
        } else {
            (model.forward_after(&tokens, &lengths, state), None)
        };
        // Each base is told by the token before it: the first of a piece by what was reached.
        let mut source = Vec::with_capacity(tokens.size()[0] as usize);
        let (mut at, known) = (0, reached.next.size()[0]);
        for (&row, &length) in rows.iter().zip(&lengths) {
            source.push(row);
            source.extend((at..at + length - 1).map(|token| known + token));
            at += length;
        }
        let source = Tensor::from_slice(&source).to_device(model.device());
        let values = Tensor::cat(&[&reached.next, &output.logits], 0)
            .to_kind(Kind::Float)
            .log_softmax(-1, Kind::Float)
            .index_select(0, &source)
            .gather(1, &tokens.to_device(model.device()).unsqueeze(1), false)
            .squeeze_dim(1);
        let values = floats(&values);
        let mut rest = values.as_slice();
        let values = pieces
            .iter()
            .map(|piece| {
                let (values, after) = rest.split_at(piece.len());
                rest = after;
                finite(values, piece.len())?;
                Ok(values.to_vec())
            })
            .collect::<Result<_, ScoreError>>()?;
        Ok((values, next))
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
        let mut log_likelihoods = floats(&log_likelihoods);
        finite(&log_likelihoods, bases.len())?;
        if let Some(relatives) = &self.relatives {
            relatives.mix_whole(bases, &mut log_likelihoods);
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

/// Sequences that begin alike.
#[derive(Debug, Clone, Default)]
pub struct Branch {
    /// What they have in common; read once.
    pub prefix: Vec<u8>,
    /// What follows it in one of them, read in steps of [`STEP`] bases; may be empty.
    pub reference: Vec<u8>,
    /// What follows in the others.
    pub tails: Vec<Tail>,
}

/// Bases that follow a part of a branch's reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tail {
    /// Steps of the reference that come before it; they are there in full.
    pub step: usize,
    /// The bases, one at least.
    pub bases: Vec<u8>,
}

/// Natural log-likelihoods of what a branch holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Of the bases of the reference.
    pub reference: Vec<f32>,
    /// Of the bases of each tail.
    pub tails: Vec<Vec<f32>>,
}

impl Read {
    fn of(branch: &Branch) -> Self {
        Self {
            reference: Vec::with_capacity(branch.reference.len()),
            tails: vec![Vec::new(); branch.tails.len()],
        }
    }
}

/// Bases of a reference between two places where tails may begin.
pub const STEP: usize = 64;

/// Tokens that are read in one pass on a GPU.
const PACK: usize = 1 << 20;

/// Bytes of the states of tails in one pass on a GPU.
const PACK_STATES: u64 = 1 << 33;

/// Where the reading of branches has come to.
struct Reached {
    /// Scores of the base that comes next: `[rows, vocabulary]`.
    next: Tensor,
    state: State,
}

/// The last row of each packed sequence; none is empty.
fn last_rows(values: &Tensor, lengths: &[i64]) -> Tensor {
    let mut end = 0;
    let last: Vec<i64> = lengths
        .iter()
        .map(|length| {
            end += length;
            end - 1
        })
        .collect();
    values.index_select(0, &Tensor::from_slice(&last).to_device(values.device()))
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
        let tail = |step: usize, bases: &[u8]| Tail {
            step,
            bases: bases.to_vec(),
        };
        // The last three have all of their reference, whole steps of it, and none.
        let branches: Vec<Branch> = [
            (0, 130),
            (1, 64),
            (255, 199),
            (256, 700),
            (300, 128),
            (511, 0),
        ]
        .iter()
        .map(|&(cut, length)| {
            let reference = bases[cut..]
                .iter()
                .copied()
                .take(length)
                .collect::<Vec<_>>();
            let steps = reference.len() / STEP;
            Branch {
                prefix: bases[..cut].to_vec(),
                tails: vec![
                    tail(0, &bases[cut..]),
                    tail(steps, &bases[cut..cut + 1]),
                    tail(steps / 2, &[b"GATTACA", &bases[cut..cut + 90]].concat()),
                    tail(steps, &bases[..150]),
                ],
                reference,
            }
        })
        .collect();
        let one_by_one = engine.branches(&branches).expect("read");
        engine.packs = true;
        let packed = engine.branches(&branches).expect("read");
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        };
        let whole = |before: &[u8], bases: &[u8]| {
            let whole = engine.log_likelihoods(&[[before, bases].concat()]);
            whole.expect("read")[0][before.len()..].to_vec()
        };
        for (i, branch) in branches.iter().enumerate() {
            let expected = whole(&branch.prefix, &branch.reference);
            close(&one_by_one[i].reference, &expected);
            close(&packed[i].reference, &expected);
            for (j, tail) in branch.tails.iter().enumerate() {
                let before = [&branch.prefix, &branch.reference[..tail.step * STEP]].concat();
                let expected = whole(&before, &tail.bases);
                close(&one_by_one[i].tails[j], &expected);
                close(&packed[i].tails[j], &expected);
            }
        }
        // To the last bit a tail is read as it is alone, and a reference as a part of it.
        engine.packs = false;
        for (branch, values) in branches.iter().zip(&one_by_one) {
            for (tail, expected) in branch.tails.iter().zip(&values.tails) {
                let length = tail.step * STEP;
                let alone = Branch {
                    prefix: branch.prefix.clone(),
                    reference: branch.reference[..length].to_vec(),
                    tails: vec![tail.clone()],
                };
                let found = engine.branches(&[alone]).expect("read").remove(0);
                assert_eq!(&found.tails[0], expected);
                assert_eq!(found.reference, values.reference[..length]);
            }
        }
    }
}
