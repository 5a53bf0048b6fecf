//! The state of a run in memory, and one optimizer step.

use std::sync::Arc;
use std::time::Instant;

use cistron_model::HNet;
use tch::{Device, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::average::Average;
use crate::batch::Batch;
use crate::buckets;
use crate::collective::{Alone, Collective};
use crate::config::RunConfig;
use crate::gradients;
use crate::loader::Loader;
use crate::long_range::Carry;
use crate::loss::Tally;
use crate::parallel::{Parallel, Ran};
use crate::sampler::Place;
use crate::sanity;
use crate::workers::{Weights, Workers};

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub struct Trainer {
    /// How it trains.
    pub config: RunConfig,
    /// The model that is trained.
    pub model: HNet,
    /// Its optimizer.
    pub optimizer: AdamW,
    /// The moving average of its weights, when there is one.
    pub average: Option<Average>,
    /// How far it has come.
    pub counts: Counts,
    /// Threads that run its batches.
    pub workers: Workers,
    /// The ranks that train it together.
    pub group: Arc<dyn Collective>,
    /// This rank's part in them, where there are several.
    pub parallel: Option<Parallel>,
    /// The states that its windows begin from.
    pub carry: Carry,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens seen by all ranks.
    pub tokens: u64,
    /// Seconds of training, with evaluations and checkpoints.
    pub seconds: f64,
    /// Running mean of the gradient norm, against which a step explodes; 0 before the first.
    #[serde(default)]
    pub usual_norm: f64,
    /// Floating-point operations of all forward and backward passes.
    #[serde(default)]
    pub flops: f64,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Number of the step, the first being 1.
    pub step: u64,
    /// Sums over the batch.
    pub tally: Tally,
    /// Cross-entropy in nats plus the weighed ratio losses.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub norm: f64,
    /// Base learning rate.
    pub lr: f64,
    /// Duration.
    pub seconds: f64,
    /// A signal that some rank has had.
    pub signal: Option<i32>,
}

impl Trainer {
    /// A fresh model with seeded weights.
    ///
    /// # Errors
    ///
    /// The model cannot be built.
    pub fn new(config: &RunConfig, device: Device) -> Result<Self, TrainError> {
        let model = HNet::new(&config.model, config.train.seed, device)?
            .with_compute(config.train.compute(device));
        let average = match config.train.ema_decay {
            decay if decay > 0.0 => Some(Average::new(decay, &model)?),
            _ => None,
        };
        Ok(Self {
            optimizer: AdamW::new(&config.optimizer, model.params()),
            config: config.clone(),
            model,
            average,
            counts: Counts::default(),
            workers: Workers::new(config.train.accumulate, device),
            group: Alone::group(),
            parallel: None,
            carry: Carry::new(&config.long_range, config.train.seed),
        })
    }

    /// From now on trains together with the other ranks of `group`, all of which stand at the
    /// same step. With `overlap` gradients are exchanged while the backward pass goes on.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached, or stand elsewhere.
    pub fn join(&mut self, group: Arc<dyn Collective>, overlap: bool) -> Result<(), TrainError> {
        self.join_with(group, overlap, buckets::CAPACITY)
    }

    pub(crate) fn join_with(
        &mut self,
        group: Arc<dyn Collective>,
        overlap: bool,
        capacity: i64,
    ) -> Result<(), TrainError> {
        if group.rank() > 0 {
            // A checkpoint has the states of rank 0 alone.
            self.carry.forget();
        }
        if group.world() > 1 {
            let zero = self.config.train.zero;
            let shared = Arc::clone(&group);
            let parallel = Parallel::new(&self.model, shared, zero, overlap, capacity)?;
            if zero {
                let plan = &parallel.buckets().plan;
                self.optimizer.shard(&plan.stretches(group.rank()));
            }
            self.parallel = Some(parallel);
        }
        self.group = group;
        Ok(())
    }

    /// The optimizer with its whole state, where this rank has a part of it alone. All ranks
    /// call it together.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn whole_optimizer(&self) -> Result<Option<AdamW>, TrainError> {
        match &self.parallel {
            Some(parallel) => parallel.whole(&self.optimizer),
            None => Ok(None),
        }
    }

    /// Takes rank 0's clock, so that all ranks agree on when the run is over.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn agree_on_time(&mut self) -> Result<(), TrainError> {
        let mine = self.group.rank() == 0;
        let mut seconds = [if mine { self.counts.seconds } else { 0.0 }];
        self.group.sum(&mut seconds)?;
        self.counts.seconds = seconds[0];
        Ok(())
    }

    /// The weights to evaluate and to keep: the average when there is one.
    pub fn best_model(&self) -> &HNet {
        self.average.as_ref().map_or(&self.model, Average::model)
    }

    /// The part of the run that is over, in `[0, 1]`.
    pub fn progress(&self) -> f64 {
        self.config
            .schedule
            .progress(self.counts.step, self.counts.seconds)
    }

    /// Takes one step: all batches of it forwards and backwards, then the optimizer. `stop`
    /// is asked near its end for a signal that has come.
    ///
    /// # Errors
    ///
    /// The corpus cannot be read; or loss or gradient are no numbers, in which case the
    /// weights are as before; or other ranks are lost.
    pub fn step(
        &mut self,
        loader: &Loader<'_>,
        stop: &dyn Fn() -> Option<i32>,
    ) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        let parts = self.config.train.accumulate;
        let batches = (0..parts)
            .map(|part| {
                let place = Place {
                    step: self.counts.step,
                    part,
                    parts,
                    rank: self.group.rank(),
                    world: self.group.world(),
                };
                let mut batch = loader.batch(place)?;
                self.carry.begin(&mut batch, place, &self.model);
                Ok(batch)
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        self.step_on(batches, started, stop)
    }

    /// As [`Trainer::step`], with this rank's batches at hand, which were begun at `started`.
    ///
    /// # Errors
    ///
    /// As [`Trainer::step`].
    pub fn step_on(
        &mut self,
        batches: Vec<Batch>,
        started: Instant,
        stop: &dyn Fn() -> Option<i32>,
    ) -> Result<StepReport, TrainError> {
        let schedule = &self.config.schedule;
        let multiplier = schedule.multiplier(self.counts.step, self.progress());
        let lr = self.config.optimizer.lr * multiplier;
        let Ran {
            mut gradients,
            counts,
            used,
            states,
        } = match &self.parallel {
            Some(parallel) => parallel.run(&self.model, &batches)?,
            None => self.run_alone(batches)?,
        };
        let all: Vec<Tensor> = gradients.values().map(Tensor::shallow_clone).collect();
        let norm = gradients::global_norm(&all);
        // A GPU is waited for here alone, with all of the pass in its queue.
        let mut tally = Tally::default();
        for counted in counts {
            tally.add(&counted.read());
        }
        let mut norm = norm.double_value(&[]);
        let mut signal = None;
        let mut clock = None;
        if let Some(parallel) = &self.parallel {
            let first = self.group.rank() == 0;
            let mine = |value: f64| if first { value } else { 0.0 };
            let asked = stop();
            let came = |signal: i32| f64::from(u8::from(asked == Some(signal)));
            // Ranks with parts of the gradient add up their squares; else rank 0's is as good
            // as any.
            let square = norm * norm;
            let mut numbers = vec![
                if parallel.zero() {
                    square
                } else {
                    mine(square)
                },
                mine(self.counts.seconds + started.elapsed().as_secs_f64()),
                came(2),
                came(15),
            ];
            numbers.extend(used.iter().map(|used| f64::from(u8::from(*used))));
            reduce(&mut tally, &mut numbers, &*self.group)?;
            norm = numbers[0].sqrt();
            clock = Some(numbers[1]);
            signal = (numbers[2] > 0.0).then_some(2);
            signal = (numbers[3] > 0.0).then_some(15).or(signal);
            for (slot, users) in parallel.buckets().plan.slots.iter().zip(&numbers[4..]) {
                if *users == 0.0 {
                    gradients.remove(&slot.name);
                }
            }
        }
        let loss = tally.nats_per_base() + tally.ratio_loss(self.model.config());
        let usual = self.counts.usual_norm;
        sanity::check(self, &gradients, loss, norm)?;
        gradients::clip(&all, norm, self.config.optimizer.clip);
        self.optimizer.step(self.model.params(), &gradients, lr);
        if let Some(parallel) = &self.parallel {
            parallel.publish(&self.model)?;
        }
        self.carry.end(states);
        self.counts.usual_norm = sanity::usual(usual, norm, self.counts.step);
        self.counts.step += 1;
        self.counts.tokens += tally.tokens;
        // A backward pass takes twice what the forward pass does.
        self.counts.flops += 3.0 * tally.forward_flops;
        if let Some(average) = &mut self.average {
            average.update(self.model.params(), self.counts.step);
        }
        let seconds = started.elapsed().as_secs_f64();
        self.counts.seconds = clock.unwrap_or(self.counts.seconds + seconds);
        if self.parallel.is_none() {
            signal = stop();
        }
        Ok(StepReport {
            step: self.counts.step,
            tally,
            loss,
            norm,
            lr,
            seconds,
            signal,
        })
    }

    /// The batches of a step in this process alone.
    fn run_alone(&self, batches: Vec<Batch>) -> Result<Ran, TrainError> {
        // The cross-entropy is a mean over all targets of the step, however divided.
        let scored: u64 = batches.iter().map(|batch| batch.scored).sum();
        let weights = Weights {
            nats: 1.0 / (scored as f64).max(1.0),
            ratio: 1.0 / batches.len() as f64,
        };
        self.workers.run(&self.model, batches, weights)
    }
}

/// Sums a tally, and other numbers with it, over all ranks. All have as many routed stages.
pub(crate) fn reduce(
    tally: &mut Tally,
    others: &mut [f64],
    group: &dyn Collective,
) -> Result<(), TrainError> {
    let counted = [tally.scored as f64, tally.tokens as f64];
    let mut values = vec![tally.nats, counted[0], counted[1], tally.forward_flops];
    for stage in &tally.stages {
        values.extend([stage.selected, stage.probability, stage.tokens]);
    }
    let own = values.len();
    values.extend_from_slice(others);
    group.sum(&mut values)?;
    (tally.nats, tally.scored, tally.tokens) = (values[0], values[1] as u64, values[2] as u64);
    tally.forward_flops = values[3];
    for (stage, sums) in tally.stages.iter_mut().zip(values[4..own].chunks_exact(3)) {
        (stage.selected, stage.probability, stage.tokens) = (sums[0], sums[1], sums[2]);
    }
    others.copy_from_slice(&values[own..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use cistron_genome::corpus::Corpus;
    use std::path::Path;

    fn config(sets: &[&str]) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        RunConfig::parse(testing::TINY, Path::new("tiny.toml"), &sets).unwrap()
    }

    fn run(corpus: &Corpus, config: &RunConfig, steps: u64) -> (Trainer, Vec<StepReport>) {
        let alphabet = config.model.alphabet();
        let loader = Loader::new(
            corpus,
            &config.data,
            alphabet,
            config.train.seed,
            Device::Cpu,
        )
        .unwrap();
        let mut trainer = Trainer::new(config, Device::Cpu).unwrap();
        let reports = (0..steps)
            .map(|_| trainer.step(&loader, &|| None).unwrap())
            .collect();
        (trainer, reports)
    }

    #[test]
    fn the_loss_falls_and_the_counts_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let config = config(&["schedule.steps=60", "schedule.kind=constant"]);
        let (trainer, reports) = run(&corpus, &config, 60);
        let mean = |reports: &[StepReport]| {
            reports
                .iter()
                .map(|report| report.tally.bits_per_base())
                .sum::<f64>()
                / reports.len() as f64
        };
        let (early, late) = (mean(&reports[..5]), mean(&reports[50..]));
        assert!(late < 1.9 && late < early - 0.5, "{early} {late}");
        assert_eq!(trainer.counts.step, 60);
        let tokens: u64 = reports.iter().map(|report| report.tally.tokens).sum();
        assert_eq!(trainer.counts.tokens, tokens);
    }

    #[test]
    fn bf16_with_checkpointing_learns_as_fp32_does() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let last = |sets: &[&str]| {
            let sets: Vec<&str> = ["schedule.steps=40", "schedule.kind=constant"]
                .iter()
                .chain(sets)
                .copied()
                .collect();
            let (_, reports) = run(&corpus, &config(&sets), 40);
            let bits = reports[30..].iter().map(|r| r.tally.bits_per_base());
            bits.sum::<f64>() / 10.0
        };
        let exact = last(&["train.precision=fp32"]);
        let near = last(&["train.precision=bf16", "train.checkpointing=[0]"]);
        assert!((exact - near).abs() < 0.05, "{exact} {near}");
        let again = last(&["train.precision=fp32", "train.checkpointing=all"]);
        assert_eq!(exact, again);
    }

    /// Batches run side by side, each on one thread: how many threads there are is no matter.
    #[test]
    fn accumulated_steps_do_not_depend_on_threads() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let config = config(&["data.batch=2", "train.accumulate=4"]);
        let losses = |threads| {
            tch::set_num_threads(threads);
            let (_, reports) = run(&corpus, &config, 4);
            reports.iter().map(|report| report.loss).collect::<Vec<_>>()
        };
        let one = losses(1);
        assert_eq!(one, losses(2));
        assert_eq!(one, losses(3));
    }

    /// Windows of a stretch are read as one long sequence would be.
    #[test]
    fn carried_states_make_one_sequence_of_consecutive_windows() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let config = config(&[
            "optimizer.lr=0",
            "data.batch=1",
            "long_range.method=tbptt",
            "long_range.windows=4",
        ]);
        let loader = Loader::new(
            &corpus,
            &config.data,
            config.model.alphabet(),
            1,
            Device::Cpu,
        )
        .unwrap()
        .with_long_range(&config.long_range);
        let mut trainer = Trainer::new(&config, Device::Cpu).unwrap();
        let (mut nats, mut parts, mut targets) = (0.0, Vec::new(), Vec::new());
        for step in 0..4 {
            let place = Place {
                step,
                part: 0,
                parts: 1,
                rank: 0,
                world: 1,
            };
            let batch = loader.batch(place).unwrap();
            assert_eq!(batch.continues, [step > 0]);
            parts.push(batch.tokens);
            targets.push(batch.targets);
            nats += trainer.step(&loader, &|| None).unwrap().tally.nats;
        }
        let (tokens, targets) = (Tensor::cat(&parts, 0), Tensor::cat(&targets, 0));
        let lengths = vec![tokens.size()[0]];
        let batch = crate::batch::Batch::new(tokens, targets, lengths, 1);
        let output = trainer.model.forward(&batch.tokens, &batch.lengths);
        let whole = crate::loss::Loss::of(&output, &batch, trainer.model.config()).tally();
        assert!(
            (whole.nats - nats).abs() < 1e-3 * nats,
            "{} {nats}",
            whole.nats
        );
    }

    #[test]
    fn an_exploding_gradient_stops_before_the_update() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let config = config(&["optimizer.explosion=20", "schedule.steps=100"]);
        let (mut trainer, _) = run(&corpus, &config, 55);
        let usual = trainer.counts.usual_norm;
        assert!(usual > 0.0);
        trainer.counts.usual_norm = 1e-4;
        let loader = Loader::new(
            &corpus,
            &config.data,
            config.model.alphabet(),
            0,
            Device::Cpu,
        );
        let error = trainer
            .step(&loader.unwrap(), &|| None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("step 56: the gradient norm is"),
            "{error}"
        );
        assert!(error.contains("The gradient of "), "{error}");
        assert_eq!(trainer.counts.step, 55);
    }

    #[test]
    fn accumulated_batches_have_the_gradient_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let whole = config(&["data.batch=6", "model.cistron.alpha=0"]);
        let parts = config(&[
            "data.batch=2",
            "train.accumulate=3",
            "model.cistron.alpha=0",
        ]);
        let (a, first) = run(&corpus, &whole, 3);
        let (b, second) = run(&corpus, &parts, 3);
        for (one, two) in first.iter().zip(&second) {
            assert_eq!(one.tally.scored, two.tally.scored);
            assert!(
                (one.loss - two.loss).abs() < 1e-5,
                "{} {}",
                one.loss,
                two.loss
            );
            assert!((one.norm - two.norm).abs() < 1e-4 * one.norm);
        }
        assert_eq!(a.counts.tokens, b.counts.tokens);
    }

    #[test]
    fn a_loss_that_is_no_number_stops_before_the_update() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let config = config(&[]);
        let loader = Loader::new(
            &corpus,
            &config.data,
            config.model.alphabet(),
            0,
            Device::Cpu,
        )
        .unwrap();
        let mut trainer = Trainer::new(&config, Device::Cpu).unwrap();
        trainer.step(&loader, &|| None).unwrap();
        let weight =
            |trainer: &Trainer, name: &str| trainer.model.params().get(name).unwrap().tensor.copy();
        tch::no_grad(|| {
            let _ = weight(&trainer, "lm_head.weight");
            let mut head = trainer
                .model
                .params()
                .get("lm_head.weight")
                .unwrap()
                .tensor
                .shallow_clone();
            let _ = head.g_mul_scalar_(f64::NAN);
        });
        let before = weight(&trainer, "embeddings.weight");
        let error = trainer.step(&loader, &|| None).unwrap_err().to_string();
        assert!(error.starts_with("step 2: the loss is NaN"), "{error}");
        assert!(error.contains("the weight lm_head.weight"), "{error}");
        assert_eq!(before, weight(&trainer, "embeddings.weight"));
        assert_eq!(trainer.counts.step, 1);
    }
}
