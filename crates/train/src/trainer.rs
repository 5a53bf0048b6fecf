//! The state of a run in memory, and one optimizer step.

use std::time::Instant;

use cistron_model::HNet;
use tch::{Device, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::average::Average;
use crate::collective::Collective;
use crate::config::RunConfig;
use crate::gradients;
use crate::loader::Loader;
use crate::loss::Tally;
use crate::sampler::Place;
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
        })
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

    /// Takes one step: all batches of it forwards and backwards, then the optimizer.
    ///
    /// # Errors
    ///
    /// The corpus cannot be read; or loss or gradient are no numbers, in which case the
    /// weights are as before.
    pub fn step(
        &mut self,
        loader: &Loader<'_>,
        group: &dyn Collective,
    ) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        let schedule = &self.config.schedule;
        let multiplier = schedule.multiplier(self.counts.step, self.progress());
        let lr = self.config.optimizer.lr * multiplier;
        let parts = self.config.train.accumulate;
        let batches = (0..parts)
            .map(|part| {
                loader.batch(Place {
                    step: self.counts.step,
                    part,
                    parts,
                    rank: group.rank(),
                    world: group.world(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // The cross-entropy is a mean over all targets of the step, however divided.
        let mut scored = [batches.iter().map(|batch| batch.scored as f64).sum()];
        group.sum(&mut scored);
        let shares = (parts * group.world()) as f64;

        let weights = Weights {
            nats: 1.0 / scored[0].max(1.0),
            ratio: 1.0 / shares,
        };
        let (gradients, mut tally) = self.workers.run(&self.model, batches, weights)?;
        let all: Vec<Tensor> = gradients.values().map(Tensor::shallow_clone).collect();
        group.sum_gradients(&all);
        reduce(&mut tally, group);
        let norm = gradients::global_norm(&all);
        let loss = tally.nats_per_base() + tally.ratio_loss(self.model.config());
        for (what, value) in [("loss", loss), ("gradient norm", norm)] {
            if !value.is_finite() {
                let step = self.counts.step + 1;
                return Err(TrainError::NonFinite {
                    step,
                    what,
                    value,
                    last: None,
                });
            }
        }
        gradients::clip(&all, norm, self.config.optimizer.clip);
        self.optimizer.step(self.model.params(), &gradients, lr);
        self.counts.step += 1;
        self.counts.tokens += tally.tokens;
        if let Some(average) = &mut self.average {
            average.update(self.model.params(), self.counts.step);
        }
        let seconds = started.elapsed().as_secs_f64();
        self.counts.seconds += seconds;
        Ok(StepReport {
            step: self.counts.step,
            tally,
            loss,
            norm,
            lr,
            seconds,
        })
    }
}

/// Sums a tally over all ranks.
fn reduce(tally: &mut Tally, group: &dyn Collective) {
    let mut values = vec![tally.nats, tally.scored as f64, tally.tokens as f64];
    for stage in &tally.stages {
        values.extend([stage.selected, stage.probability, stage.tokens]);
    }
    group.sum(&mut values);
    (tally.nats, tally.scored, tally.tokens) = (values[0], values[1] as u64, values[2] as u64);
    for (stage, sums) in tally.stages.iter_mut().zip(values[3..].chunks_exact(3)) {
        (stage.selected, stage.probability, stage.tokens) = (sums[0], sums[1], sums[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Alone;
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
            .map(|_| trainer.step(&loader, &Alone).unwrap())
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
        trainer.step(&loader, &Alone).unwrap();
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
        let error = trainer.step(&loader, &Alone).unwrap_err().to_string();
        assert!(error.starts_with("step 2: the loss is NaN"), "{error}");
        assert_eq!(before, weight(&trainer, "embeddings.weight"));
        assert_eq!(trainer.counts.step, 1);
    }
}
