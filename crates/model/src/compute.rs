//! In which numbers a model computes, and what it keeps for the backward pass.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// Numbers in which products, mixers and norms compute.
///
/// Whatever it is, parameters, the residual stream, routers, decays, the dechunk layer,
/// logits and losses are fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point throughout.
    Fp32,
    /// bfloat16: 8 bits of mantissa, the exponents of fp32.
    Bf16,
}

impl Precision {
    /// What a device is used with unless told otherwise: bf16 on a GPU, fp32 elsewhere.
    pub fn of(device: Device) -> Self {
        if device.is_cuda() {
            Self::Bf16
        } else {
            Self::Fp32
        }
    }

    /// The kind of the tensors.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Its name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Stages whose layers keep their input alone, and run again in the backward pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"all\", or a list of stages, the outermost being 0"
)]
pub enum Checkpointing {
    /// Every stage or none.
    Every(Every),
    /// These stages, the outermost being 0.
    Stages(Vec<usize>),
}

/// Every stage or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// No stage.
    None,
    /// Every stage.
    All,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self::Every(Every::None)
    }
}

impl Checkpointing {
    /// Whether the layers of `stage` run again.
    pub fn covers(&self, stage: usize) -> bool {
        match self {
            Self::Every(every) => *every == Every::All,
            Self::Stages(stages) => stages.contains(&stage),
        }
    }
}

/// How a model computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// Numbers of products, mixers and norms.
    pub precision: Precision,
    /// What the backward pass computes again.
    pub checkpointing: Checkpointing,
    /// For measurements: the share of tokens that start a chunk in each routed stage of
    /// the parallel form, spread evenly, whatever the router says. Empty otherwise.
    pub selection: Vec<f64>,
}

impl Compute {
    /// Everything is kept for the backward pass.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            checkpointing: Checkpointing::default(),
            selection: Vec::new(),
        }
    }

    /// The kind of the tensors within layers.
    pub fn kind(&self) -> Kind {
        self.precision.kind()
    }
}
