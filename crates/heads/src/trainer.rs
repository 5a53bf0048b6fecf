//! One network from its first values to its best ones.
//!
//! A batch is cut into a fixed number of shards, each with a generator of its own. Shards may run
//! side by side, with one libtorch thread each; what comes out does not depend on whether they do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cistron_model::lyra::Noise;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::dataset::Task;
use crate::error::HeadError;
use crate::metrics::{Choice, Metrics};
use crate::network::{Inputs, Network};
use crate::optimizer::AdamW;
use crate::scale::{Scale, Transform};

/// Shards of a batch.
pub const SHARDS: usize = 2;
/// Rows that are predicted at once.
const BLOCK: usize = 256;

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Passes over the training rows.
    pub epochs: usize,
    /// Rows a step.
    pub batch: usize,
    /// Peak rate.
    pub rate: f64,
    /// Rate of step sizes and poles, over that of the rest.
    pub ssm_rate: f64,
    /// Weight decay.
    pub decay: f64,
    /// Epochs without a better validation score after which training ends; 0 for a quarter of all,
    /// and 10 at least.
    pub patience: usize,
    /// Share of the steps over which the rate rises; then it falls as a cosine.
    pub warmup: f64,
    /// Largest norm of a gradient.
    pub clip: f64,
    /// Errors beyond this many standard deviations count linearly; 0 for squares throughout.
    pub huber: f64,
    /// Steps over which weights are averaged, exponentially, but never over more than an eighth of
    /// all; 0 for the weights as they are.
    #[serde(default)]
    pub average: f64,
    /// What chooses the epoch.
    #[serde(default)]
    pub choice: Choice,
    /// Seed of first values, order and dropout.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            epochs: 0,
            batch: 0,
            rate: 2e-3,
            ssm_rate: 0.5,
            decay: 0.01,
            patience: 0,
            warmup: 0.05,
            clip: 1.0,
            huber: 0.0,
            average: 200.0,
            choice: Choice::Correlation,
            seed: 1,
        }
    }
}

/// By letters of a sequence, up to so many: how many times more epochs than usual it takes, and the
/// sequences that may pass a network in all, in minutes of two cores.
const SHORT: [(i64, f64, f64); 2] = [(12, 6.0, 3_200_000.0), (64, 2.4, 400_000.0)];

impl Training {
    /// Fills in what is 0 by the number of training rows: small tables take small batches and many
    /// epochs, large ones the opposite. Short sequences, of which epochs cost little, take more as long
    /// as the table is not large.
    #[must_use]
    pub fn for_rows(mut self, rows: usize, letters: Option<i64>) -> Self {
        if self.batch == 0 {
            self.batch = match rows {
                0..=1_000 => 32,
                1_001..=8_000 => 64,
                8_001..=40_000 => 128,
                _ => 256,
            };
        }
        if self.epochs == 0 {
            let usual = 20.0 * (4_000.0 / rows as f64).powf(0.4);
            let short = SHORT
                .iter()
                .find(|(most, ..)| letters.is_some_and(|n| n <= *most));
            let wanted = short.map_or(usual, |(_, times, affordable)| {
                (times * usual).min(affordable / rows as f64).max(usual)
            });
            let fewest = (400.0 * self.batch as f64 / rows as f64).ceil();
            self.epochs = (wanted.round().max(8.0).max(fewest) as usize).min(400);
        }
        if self.patience == 0 {
            self.patience = (self.epochs / 4).max(10);
        }
        self
    }
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean loss of the training rows during it, on standardised targets.
    pub train_loss: f64,
    /// Validation loss after it.
    pub validation_loss: Option<f64>,
    /// Validation score after it: see [`Metrics::score`].
    pub validation_score: Option<f64>,
    /// Training sequences a second, without validation.
    pub rate: f64,
}

/// What a training gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fit {
    /// The epochs.
    pub epochs: Vec<Epoch>,
    /// The epoch whose values were kept.
    pub best: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// Training sequences a second, without validation.
    pub sequences_per_second: f64,
}

/// The rows of a training.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Trained on.
    pub train: &'a [usize],
    /// Measured after each epoch; with fewer than [`Rows::FEWEST`] they are of no help.
    pub validation: &'a [usize],
    /// Targets as they are learned, a row each.
    pub targets: &'a [Vec<f64>],
}

impl Rows<'_> {
    /// Fewer validation rows than these rank nothing: the last values are kept.
    pub const FEWEST: usize = 10;
}

/// A worker's handles and its generator.
struct Worker {
    network: Network,
    inputs: Inputs,
    targets: Tensor,
    noise: Noise,
}

/// How a training may run, and what ends it.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// Whether shards run side by side.
    pub parallel: bool,
    /// Ends it early when set.
    pub stop: &'a AtomicBool,
}

/// Trains `network` in place and leaves its best values in it.
///
/// # Errors
///
/// The run was stopped, or the loss is not a number.
pub fn train(
    network: &Network,
    inputs: &Inputs,
    task: Task,
    rows: Rows<'_>,
    settings: &Training,
    control: &Control<'_>,
    report: &mut dyn FnMut(&Epoch),
) -> Result<Fit, HeadError> {
    let Control { parallel, stop } = *control;
    let device = inputs.letters.device();
    let width = rows.targets.first().map_or(1, Vec::len) as i64;
    let ranks: Vec<Scale> = match network.ranks() {
        false => Vec::new(),
        true => {
            let train: Vec<&Vec<f64>> = rows.train.iter().map(|&row| &rows.targets[row]).collect();
            Scale::fit_all(task, Transform::Rank, &train)
        }
    };
    let learned = |row: &Vec<f64>| -> Vec<f32> {
        let ranked = row.iter().zip(&ranks).map(|(&v, scale)| scale.forward(v));
        row.iter()
            .copied()
            .chain(ranked)
            .map(|v| v as f32)
            .collect()
    };
    let flat: Vec<f32> = rows.targets.iter().flat_map(learned).collect();
    let targets = Tensor::from_slice(&flat)
        .reshape([rows.targets.len() as i64, -1])
        .to_device(device);
    let mut workers: Vec<Worker> = (0..SHARDS)
        .map(|shard| Worker {
            network: network.shallow_clone(),
            inputs: inputs.shallow_clone(),
            targets: targets.shallow_clone(),
            noise: Noise::new(settings.seed.wrapping_mul(SHARDS as u64) + shard as u64),
        })
        .collect();
    let params = network.params();
    let leaves: Vec<Tensor> = params
        .iter()
        .map(|(tensor, _)| tensor.shallow_clone())
        .collect();
    let mut order = rows.train.to_vec();
    let mut optimizer = AdamW::new(params, settings.decay, settings.ssm_rate);
    let steps = settings.epochs * order.len().div_ceil(settings.batch);
    let memory = settings.average.min(steps as f64 / 8.0);
    let shadow: Vec<Tensor> = match memory > 1.0 {
        true => leaves.iter().map(|t| t.detach().copy()).collect(),
        false => Vec::new(),
    };
    let swap = || {
        tch::no_grad(|| {
            for (leaf, shadow) in leaves.iter().zip(&shadow) {
                let value = leaf.detach().copy();
                leaf.shallow_clone().copy_(shadow);
                shadow.shallow_clone().copy_(&value);
            }
        });
    };
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed ^ 0x006f_7264);
    let measured: Vec<Vec<f64>> = rows
        .validation
        .iter()
        .map(|&row| rows.targets[row].clone())
        .collect();
    let (started, mut training) = (Instant::now(), 0.0);
    let (mut step, mut epochs) = (0, Vec::new());
    let mut best: Option<(f64, usize, Vec<Tensor>)> = None;
    for epoch in 1..=settings.epochs {
        let begun = Instant::now();
        order.shuffle(&mut rng);
        let mut sum = Tensor::zeros([], (Kind::Float, device));
        for batch in order.chunks(settings.batch) {
            if stop.load(Ordering::Relaxed) {
                return Err(HeadError::Stopped);
            }
            let (loss, gradients) = gradients(&mut workers, batch, task, settings, parallel);
            sum += loss * batch.len() as f64;
            optimizer.step(
                &gradients,
                settings.rate * part(step, steps, settings.warmup),
                settings.clip,
            );
            step += 1;
            // At first over a tenth of what has been.
            let share = (1.0 / memory).max(9.0 / (step as f64 + 9.0));
            tch::no_grad(|| {
                for (leaf, shadow) in leaves.iter().zip(&shadow) {
                    let _ = shadow.shallow_clone().lerp_(leaf, share);
                }
            });
        }
        swap();
        let loss = sum.double_value(&[]) / order.len() as f64;
        let seconds = begun.elapsed().as_secs_f64();
        training += seconds;
        if !loss.is_finite() {
            return Err(HeadError::Options(format!(
                "the training loss is not a number in epoch {epoch}; try a lower --lr"
            )));
        }
        let mut entry = Epoch {
            epoch,
            train_loss: loss,
            validation_loss: None,
            validation_score: None,
            rate: order.len() as f64 / seconds,
        };
        if measured.len() >= Rows::FEWEST {
            let raw = raw(&mut workers, rows.validation, parallel);
            let index = index(rows.validation, device);
            let values = targets.index_select(0, &index).narrow(1, 0, width);
            let loss = loss_of(&raw, &values, task, settings.huber);
            let score = Metrics::of(task, &activate(&raw, task), &measured).score(settings.choice);
            entry.validation_loss = Some(loss.double_value(&[]));
            entry.validation_score = Some(score);
            if best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
                best = Some((
                    score,
                    epoch,
                    leaves.iter().map(|t| t.detach().copy()).collect(),
                ));
            }
        }
        if epoch < settings.epochs {
            swap();
        }
        report(&entry);
        epochs.push(entry);
        if best
            .as_ref()
            .is_some_and(|(_, at, _)| epoch - at >= settings.patience)
        {
            break;
        }
    }
    let last = epochs.len();
    let kept = best.map_or(last, |(_, at, values)| {
        tch::no_grad(|| {
            for (leaf, value) in leaves.iter().zip(values) {
                leaf.shallow_clone().copy_(&value);
            }
        });
        at
    });
    Ok(Fit {
        best: kept,
        seconds: started.elapsed().as_secs_f64(),
        sequences_per_second: (last * order.len()) as f64 / training,
        epochs,
    })
}

/// Predictions for `rows`: numbers as they are learned, or probabilities.
pub fn predict(
    network: &Network,
    inputs: &Inputs,
    task: Task,
    rows: &[usize],
    parallel: bool,
) -> Vec<Vec<f64>> {
    let mut workers: Vec<Worker> = (0..SHARDS)
        .map(|_| Worker {
            network: network.shallow_clone(),
            inputs: inputs.shallow_clone(),
            targets: Tensor::new(),
            noise: Noise::new(0),
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    activate(&raw(&mut workers, rows, parallel), task)
}

/// The rate of a step over its peak.
fn part(step: usize, steps: usize, warmup: f64) -> f64 {
    let rise = (warmup * steps as f64).max(1.0);
    let done = step as f64 + 1.0;
    if done < rise {
        return done / rise;
    }
    let progress = (done - rise) / (steps as f64 - rise).max(1.0);
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

fn index(rows: &[usize], device: tch::Device) -> Tensor {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_slice(&rows).to_device(device)
}

/// The mean loss of a batch and its gradients.
fn gradients(
    workers: &mut [Worker],
    batch: &[usize],
    task: Task,
    settings: &Training,
    parallel: bool,
) -> (Tensor, Vec<Tensor>) {
    let size = batch.len().div_ceil(SHARDS);
    let shards: Vec<(&mut Worker, &[usize])> = workers.iter_mut().zip(batch.chunks(size)).collect();
    let total = batch.len() as f64;
    let run = |(worker, rows): (&mut Worker, &[usize])| -> Vec<Tensor> {
        let index = index(rows, worker.targets.device());
        let output = worker
            .network
            .trained(&worker.inputs.batch(&index), Some(&worker.noise));
        let members = output.size()[0];
        let output = output.flatten(0, 1);
        let targets = worker.targets.index_select(0, &index).repeat([members, 1]);
        let loss = loss_of(&output, &targets, task, settings.huber) * (rows.len() as f64 / total);
        let leaves: Vec<Tensor> = worker
            .network
            .params()
            .into_iter()
            .map(|(t, _)| t)
            .collect();
        let mut results = Tensor::run_backward(&[&loss], &leaves, false, false);
        for (result, leaf) in results.iter_mut().zip(&leaves) {
            // What the loss does not depend on has no gradient at all.
            if !result.defined() {
                *result = leaf.zeros_like();
            }
        }
        results.push(loss.detach());
        results
    };
    let results: Vec<Vec<Tensor>> = if parallel && shards.len() > 1 {
        let run = &run;
        std::thread::scope(|scope| {
            let mut shards = shards.into_iter();
            let own = shards.next();
            let handles: Vec<_> = shards
                .map(|shard| scope.spawn(move || run(shard)))
                .collect();
            let own = own.map(run);
            let others = handles.into_iter().map(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            own.into_iter().chain(others).collect()
        })
    } else {
        shards.into_iter().map(run).collect()
    };
    let sum = results
        .into_iter()
        .reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect());
    let mut sum = sum.unwrap_or_default();
    let loss = sum.pop().unwrap_or_default();
    (loss, sum)
}

/// Outputs `[rows, outputs]`, without dropout.
fn raw(workers: &mut [Worker], rows: &[usize], parallel: bool) -> Tensor {
    let size = rows.len().div_ceil(SHARDS);
    let run = |(worker, rows): (&mut Worker, &[usize])| -> Tensor {
        let device = worker.inputs.letters.device();
        tch::no_grad(|| {
            let blocks: Vec<Tensor> = rows
                .chunks(BLOCK)
                .map(|block| {
                    let batch = worker.inputs.batch(&index(block, device));
                    worker.network.forward(&batch, None)
                })
                .collect();
            Tensor::cat(&blocks, 0)
        })
    };
    let shards: Vec<_> = workers.iter_mut().zip(rows.chunks(size.max(1))).collect();
    let outputs: Vec<Tensor> = if parallel {
        let run = &run;
        std::thread::scope(|scope| {
            let handles: Vec<_> = shards
                .into_iter()
                .map(|shard| scope.spawn(move || run(shard)))
                .collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, Tensor>| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            handles.into_iter().map(join).collect()
        })
    } else {
        shards.into_iter().map(run).collect()
    };
    Tensor::cat(&outputs, 0)
}

/// The mean loss; missing labels do not count.
fn loss_of(output: &Tensor, targets: &Tensor, task: Task, huber: f64) -> Tensor {
    match task {
        Task::Regression if huber > 0.0 => output.huber_loss(targets, tch::Reduction::Mean, huber),
        Task::Regression => output.mse_loss(targets, tch::Reduction::Mean),
        Task::Classification => {
            let classes = targets.squeeze_dim(-1).to_kind(Kind::Int64);
            output.cross_entropy_for_logits(&classes)
        }
        Task::Multilabel => {
            let known = targets.isnan().logical_not().to_kind(Kind::Float);
            let labels = targets.nan_to_num(0.0, None::<f64>, None::<f64>);
            let weight: Option<Tensor> = None;
            let loss = output.binary_cross_entropy_with_logits(
                &labels,
                weight.as_ref(),
                weight.as_ref(),
                tch::Reduction::None,
            );
            (loss * &known).sum(Kind::Float) / known.sum(Kind::Float).clamp_min(1.0)
        }
    }
}

/// Numbers as they are, or probabilities.
fn activate(raw: &Tensor, task: Task) -> Vec<Vec<f64>> {
    let values = match task {
        Task::Regression => raw.shallow_clone(),
        Task::Classification => raw.softmax(-1, Kind::Double),
        Task::Multilabel => raw.to_kind(Kind::Double).sigmoid(),
    };
    let width = values.size()[1] as usize;
    let flat = values
        .to_kind(Kind::Double)
        .to_device(tch::Device::Cpu)
        .reshape([-1]);
    let flat = Vec::<f64>::try_from(&flat).expect("a flat tensor of doubles");
    flat.chunks(width).map(<[f64]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sequences_take_more_epochs_where_tables_are_not_large() {
        let epochs = |rows, letters| Training::default().for_rows(rows, letters).epochs;
        assert_eq!(epochs(6_287, Some(32)), 40);
        for (rows, letters) in [(6_287, Some(65)), (6_287, None), (120_000, Some(32))] {
            assert_eq!(epochs(rows, letters), epochs(rows, Some(1_000)));
        }
        assert_eq!(epochs(20_000, Some(32)), 20);
        assert_eq!(epochs(6_287, Some(4)), 100);
        assert_eq!(epochs(107_540, Some(4)), 30);
        let patience = |rows| Training::default().for_rows(rows, Some(4)).patience;
        assert_eq!((patience(6_287), patience(107_540)), (25, 10));
    }
}
