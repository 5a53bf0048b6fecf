//! What a training step minimises.

use std::f64::consts::LN_2;

use cistron_kernels::entropy::cross_entropy;
use cistron_model::{Config, Output, RatioStatistics};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::batch::{Batch, IGNORED};
use crate::flops;
use crate::parallel::Totals;
use crate::workers::Weights;

/// Sums over some batches, from which losses and chunk ratios are made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Negative log-likelihood of all scored targets, nats.
    pub nats: f64,
    /// Scored targets.
    pub scored: u64,
    /// Tokens the model has seen.
    pub tokens: u64,
    /// Floating-point operations of the forward pass.
    pub forward_flops: f64,
    /// One entry a routed stage, outermost first.
    pub stages: Vec<StageTally>,
}

/// Sums of one routed stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageTally {
    /// Tokens that start a chunk.
    pub selected: f64,
    /// Sum of the probabilities.
    pub probability: f64,
    /// Tokens of the stage.
    pub tokens: f64,
}

/// Chunking of one routed stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageRatio {
    /// F: share of tokens that start a chunk.
    #[serde(rename = "F")]
    pub selected: f64,
    /// G: mean probability.
    #[serde(rename = "G")]
    pub probability: f64,
}

impl Tally {
    /// Adds the sums of another.
    pub fn add(&mut self, other: &Self) {
        self.nats += other.nats;
        self.scored += other.scored;
        self.tokens += other.tokens;
        self.forward_flops += other.forward_flops;
        self.stages.resize(
            other.stages.len().max(self.stages.len()),
            StageTally::default(),
        );
        for (stage, other) in self.stages.iter_mut().zip(&other.stages) {
            stage.selected += other.selected;
            stage.probability += other.probability;
            stage.tokens += other.tokens;
        }
    }

    /// Mean negative log-likelihood, nats a base.
    pub fn nats_per_base(&self) -> f64 {
        self.nats / self.scored.max(1) as f64
    }

    /// The same in bits.
    pub fn bits_per_base(&self) -> f64 {
        self.nats_per_base() / LN_2
    }

    /// Chunking of each routed stage.
    pub fn ratios(&self) -> Vec<StageRatio> {
        self.stages
            .iter()
            .map(|stage| StageRatio {
                selected: stage.selected / stage.tokens.max(1.0),
                probability: stage.probability / stage.tokens.max(1.0),
            })
            .collect()
    }

    /// `alpha` times the ratio losses at these chunk ratios.
    pub fn ratio_loss(&self, config: &Config) -> f64 {
        let losses = self
            .ratios()
            .into_iter()
            .enumerate()
            .filter_map(|(stage, ratio)| {
                let (f, g, n) = (ratio.selected, ratio.probability, config.ratio(stage)?);
                Some(n / (n - 1.0) * ((n - 1.0) * f * g + (1.0 - f) * (1.0 - g)))
            });
        config.cistron.alpha * losses.sum::<f64>()
    }
}

/// The parts of the loss of one batch, before they are weighed.
#[derive(Debug)]
pub struct Loss {
    /// Summed cross-entropy of the scored targets, nats; fp32 scalar.
    pub nats: Tensor,
    /// `alpha` times the sum of the ratio losses of this batch; fp32 scalar.
    pub ratio: Tensor,
    /// What the ratio losses are made of, for each routed stage.
    stages: Vec<Stage>,
    counted: Counted,
}

/// What a batch adds to the sums, still on the model's device.
#[derive(Debug)]
pub struct Counted {
    /// `nats`, then F and G of each routed stage: fp64.
    numbers: Tensor,
    /// The counts, which the host knows.
    counts: Tally,
}

/// Statistics of one routed stage.
#[derive(Debug)]
struct Stage {
    statistics: RatioStatistics,
    tokens: f64,
    /// `alpha` and the target ratio, where there is one.
    target: Option<(f64, f64)>,
}

impl Loss {
    /// The loss of what the model said of a batch.
    ///
    /// The statistics of the ratio losses are over the batch; [`Loss::among`] has those over
    /// the batches of all ranks.
    pub fn of(output: &Output, batch: &Batch, config: &Config) -> Self {
        let nats = cross_entropy(&output.logits, &batch.targets, IGNORED);
        let mut ratio = Tensor::zeros([], (Kind::Float, nats.device()));
        let mut numbers = vec![nats.detach()];
        let mut stages = Vec::new();
        for (stage, routing) in output.routing.iter().enumerate() {
            let statistics = RatioStatistics::of(routing);
            if let Some(n) = config.ratio(stage) {
                ratio += statistics.loss(n);
            }
            numbers.push(statistics.selected.detach());
            numbers.push(statistics.probability.detach());
            stages.push(Stage {
                statistics,
                tokens: routing.lengths.iter().sum::<i64>() as f64,
                target: config.ratio(stage).map(|n| (config.cistron.alpha, n)),
            });
        }
        let counted = stages.iter().map(|stage| StageTally {
            tokens: stage.tokens,
            ..StageTally::default()
        });
        Self {
            nats,
            ratio: ratio * config.cistron.alpha,
            counted: Counted {
                numbers: Tensor::stack(&numbers, 0).to_kind(Kind::Double),
                counts: Tally {
                    nats: 0.0,
                    scored: batch.scored,
                    tokens: batch.lengths.iter().sum::<i64>() as u64,
                    forward_flops: flops::measured(config, &batch.lengths, &output.routing),
                    stages: counted.collect(),
                },
            },
            stages,
        }
    }

    /// What this batch is trained on: the weighed sum of both parts.
    pub fn alone(&self, weights: Weights) -> Tensor {
        &self.nats * weights.nats + &self.ratio * weights.ratio
    }

    /// The same among ranks, of which each has a batch of its own: a scalar whose gradients
    /// add up over the ranks to those of the loss of all their batches together.
    ///
    /// With F and G over all of them, `d/dG N/(N-1) ((N-1) F G + (1-F)(1-G))` is
    /// `N/(N-1) (N F - 1)`, and this batch's part of G is its sum of probabilities over all
    /// tokens. The cross-entropy is divided by the targets of the whole step, which is why
    /// `weights.nats` has no say.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn among(&self, weights: Weights, totals: &mut Totals) -> Result<Tensor, TrainError> {
        let mut sums = Vec::new();
        for stage in &self.stages {
            let RatioStatistics {
                selected,
                probability,
            } = &stage.statistics;
            let tokens = Tensor::full([], stage.tokens, (Kind::Double, selected.device()));
            sums.push(selected.to_kind(Kind::Double) * stage.tokens);
            sums.push(probability.detach().to_kind(Kind::Double) * stage.tokens);
            sums.push(tokens);
        }
        let (sums, targets) = totals.sum(&sums)?;
        let mut loss = &self.nats / targets.clamp_min(1.0).to_kind(Kind::Float);
        for (stage, i) in self.stages.iter().zip((0i64..).step_by(3)) {
            let Some((alpha, n)) = stage.target else {
                continue;
            };
            let tokens = sums.get(i + 2);
            let selected = sums.get(i) / &tokens;
            let pull = (selected * n - 1.0) * (n / (n - 1.0) * alpha * weights.ratio);
            let share = (pull / tokens * stage.tokens).to_kind(Kind::Float);
            loss += &stage.statistics.probability * share;
        }
        Ok(loss)
    }

    /// What the batch adds to the sums, to be read when nothing else is left to queue.
    pub fn counted(self) -> Counted {
        self.counted
    }

    /// [`Loss::counted`], read at once.
    pub fn tally(&self) -> Tally {
        self.counted.read()
    }
}

impl Counted {
    /// Asks the model's device, which must be done with the batch to answer.
    pub fn read(&self) -> Tally {
        let numbers = Vec::<f64>::try_from(&self.numbers).expect("a vector of doubles");
        let mut tally = self.counts.clone();
        tally.nats = numbers[0];
        for (stage, pair) in tally.stages.iter_mut().zip(numbers[1..].chunks_exact(2)) {
            stage.selected = pair[0] * stage.tokens;
            stage.probability = pair[1] * stage.tokens;
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::testing;
    use cistron_genome::alphabet::Alphabet;
    use tch::Device;

    fn batch(sequences: &[&[u8]]) -> Batch {
        let mut builder = BatchBuilder::new(Alphabet::Dna, true);
        for bases in sequences {
            builder.push(bases);
        }
        builder.finish(Device::Cpu)
    }

    #[test]
    fn even_logits_cost_the_logarithm_of_the_vocabulary() {
        let batch = batch(&[b"ACGTNACG"]);
        let output = Output {
            logits: Tensor::zeros([8, 8], (Kind::Float, Device::Cpu)),
            ..testing::model(0).forward(&batch.tokens, &batch.lengths)
        };
        let loss = Loss::of(&output, &batch, &testing::config());
        assert_eq!(loss.tally().scored, 7);
        assert!((loss.tally().bits_per_base() - 3.0).abs() < 1e-6);
    }

    #[test]
    fn ambiguous_bases_cost_nothing_and_batches_add_up() {
        let (model, config) = (testing::model(1), testing::config());
        let loss = |sequences: &[&[u8]]| {
            let batch = batch(sequences);
            Loss::of(
                &model.forward(&batch.tokens, &batch.lengths),
                &batch,
                &config,
            )
            .tally()
        };
        let one = loss(&[b"ACGTACGTAAC"]);
        let other = loss(&[b"GGTTACA"]);
        let both = loss(&[b"ACGTACGTAAC", b"GGTTACA"]);
        let mut sum = one.clone();
        sum.add(&other);
        assert!((sum.nats - both.nats).abs() < 1e-4);
        assert_eq!(sum.scored, both.scored);
        assert!((sum.stages[0].selected - both.stages[0].selected).abs() < 1e-3);
        assert_eq!(loss(&[b"NNNN"]).nats, 0.0);
        let ratio = both.ratio_loss(&config);
        let batch = batch(&[b"ACGTACGTAAC", b"GGTTACA"]);
        let exact = Loss::of(
            &model.forward(&batch.tokens, &batch.lengths),
            &batch,
            &config,
        );
        assert!((ratio - exact.ratio.double_value(&[])).abs() < 1e-6);
    }
}
