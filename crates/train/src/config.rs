//! The configuration of a run, as its TOML file has it.
//!
//! Layers, later over earlier: defaults, the file, then each `--set key=value`.

mod explain;
mod load;
mod long_range;
mod model;
mod range;
mod set;

use cistron_model::{Checkpointing, Compute, Precision};
use serde::{Deserialize, Serialize};
use tch::Device;

pub use load::RunConfig;
pub use long_range::{LongRangeConfig, Method};

/// `[data]`: what one batch is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Tokens the model sees of each sequence; contigs that are shorter are taken whole.
    pub length: u64,
    /// Sequences in a batch.
    pub batch: u64,
    /// Whether each window is read from the reverse strand with probability one half.
    pub reverse_complement: bool,
    /// Whether each sequence begins with the token for its beginning, so that its
    /// first base is a target too.
    pub bos: bool,
    /// Whether a contig shorter than `length` is followed by others in the same row of the
    /// batch, cut to its length; else the row ends with the contig.
    pub pack: bool,
    /// Whether near-duplicate genomes share the weight of one when windows are drawn, as the
    /// corpus has it; else each base of the corpus counts alike.
    pub weigh_clusters: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            length: 8192,
            batch: 8,
            reverse_complement: true,
            bos: true,
            pack: true,
            weigh_clusters: true,
        }
    }
}

/// What moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW for all parameters.
    AdamW,
    /// Muon for the matrices of the blocks, AdamW for the rest.
    Muon,
}

/// `[optimizer]`: AdamW with decoupled weight decay, alone or with Muon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// What moves the weights.
    pub kind: OptimizerKind,
    /// Peak learning rate, multiplied for each stage by `model.cistron.lr_multipliers`.
    pub lr: f64,
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no limit.
    pub clip: f64,
    /// A step stops the run when the norm of its gradient is so many times its running mean;
    /// 0 for never.
    pub explosion: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.05,
            clip: 1.0,
            explosion: 1000.0,
        }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine down to `min_lr_ratio`.
    Cosine,
    /// Warm-up, stable, decay: the peak until the last `decay_steps`.
    Wsd,
    /// The peak to the end.
    Constant,
}

/// Shape of the decay of a `wsd` schedule, `q` being the part of it that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayShape {
    /// `1 - q`.
    Linear,
    /// `1 - sqrt(q)`: steep at first.
    Sqrt,
}

/// `[schedule]`: how long the run is and how the learning rate goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Steps of the linear warm-up from zero.
    pub warmup_steps: u64,
    /// Last learning rate over the peak.
    pub min_lr_ratio: f64,
    /// Length of the decay of a `wsd` schedule; 0 for a fifth of `steps`.
    pub decay_steps: u64,
    /// Shape of that decay.
    pub decay_shape: DecayShape,
    /// Minutes of training after which the run ends, if `steps` are not over before;
    /// 0 for no limit. With a limit the learning rate follows whichever is further on,
    /// the clock or the steps, so such a run cannot be repeated bit for bit.
    pub max_minutes: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Cosine,
            steps: 1000,
            warmup_steps: 100,
            min_lr_ratio: 0.1,
            decay_steps: 0,
            decay_shape: DecayShape::Linear,
            max_minutes: 0.0,
        }
    }
}

/// Numbers in which the model computes, as the configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 on a GPU, fp32 elsewhere. A run records which it was.
    Auto,
    /// As [`Precision::Fp32`].
    Fp32,
    /// As [`Precision::Bf16`].
    Bf16,
}

impl PrecisionChoice {
    /// What it means on `device`.
    pub fn on(self, device: Device) -> Precision {
        match self {
            Self::Auto => Precision::of(device),
            Self::Fp32 => Precision::Fp32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self::Fp32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// `[train]`: everything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Decides the initial weights and the order of the data.
    pub seed: u64,
    /// Batches whose gradients are added up for one step, on each rank.
    pub accumulate: u64,
    /// Sequences of a step on all ranks together, from which `accumulate` follows; 0 to
    /// leave that as it is. A run that goes on with more or fewer ranks then takes the same
    /// steps.
    pub global_batch: u64,
    /// Whether each of several ranks keeps a part of the optimizer's state alone.
    pub zero: bool,
    /// Decay of the moving average of the weights, which is evaluated and kept as the
    /// final model; 0 for none.
    pub ema_decay: f64,
    /// Steps between two log lines.
    pub log_every: u64,
    /// Steps between two evaluations on the validation genomes; 0 for one at the end alone.
    pub eval_every: u64,
    /// Bases of an evaluation.
    pub eval_tokens: u64,
    /// Steps between two checkpoints; 0 for one at the end alone.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the newest ones.
    pub keep_last: u64,
    /// Numbers in which the model computes; weights, the residual stream, routers and
    /// losses are fp32 whatever it is.
    pub precision: PrecisionChoice,
    /// Stages whose layers keep their input alone and run again in the backward pass:
    /// less memory, a third more work.
    pub checkpointing: Checkpointing,
    /// Whether TensorBoard event files are written.
    pub tensorboard: bool,
}

impl TrainConfig {
    /// How the model computes on `device`.
    pub fn compute(&self, device: Device) -> Compute {
        Compute {
            precision: self.precision.on(device),
            checkpointing: self.checkpointing.clone(),
            selection: Vec::new(),
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            accumulate: 1,
            global_batch: 0,
            zero: false,
            ema_decay: 0.0,
            log_every: 10,
            eval_every: 200,
            eval_tokens: 131_072,
            checkpoint_every: 500,
            keep_last: 3,
            precision: PrecisionChoice::Auto,
            checkpointing: Checkpointing::default(),
            tensorboard: true,
        }
    }
}
