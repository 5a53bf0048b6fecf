//! `config.json`: the upstream H-Net keys, and what upstream lacks under `cistron`.

pub mod mamba3;
mod validate;

use std::path::Path;

use cistron_genome::alphabet::Alphabet;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::arch::{Arch, MixerKind};
pub use mamba3::Mamba3Config;

/// A value for all stages, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an integer, or a list with an integer for each stage"
)]
pub enum PerStage {
    /// The same in every stage.
    Shared(i64),
    /// One value a stage, outermost first.
    Each(Vec<i64>),
}

impl PerStage {
    /// The value of stage `stage`.
    pub fn at(&self, stage: usize) -> i64 {
        match self {
            Self::Shared(value) => *value,
            Self::Each(values) => values[stage],
        }
    }
}

/// Dimensions of the Mamba-2 and Mamba-3 blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SsmConfig {
    /// Width of the causal convolution, in tokens.
    pub d_conv: PerStage,
    /// Inner width over model width.
    pub expand: PerStage,
    /// State size of each head channel.
    pub d_state: PerStage,
    /// Chunk length of the reference kernels; our scan chooses its own.
    pub chunk_size: PerStage,
    /// Channels a head.
    pub headdim: PerStage,
    /// Groups of B and C; only 1 with Mamba-2, any divisor of the heads with Mamba-3.
    pub ngroups: PerStage,
}

impl Default for SsmConfig {
    fn default() -> Self {
        Self {
            d_conv: PerStage::Shared(4),
            expand: PerStage::Shared(2),
            d_state: PerStage::Shared(128),
            chunk_size: PerStage::Shared(256),
            headdim: PerStage::Shared(64),
            ngroups: PerStage::Shared(1),
        }
    }
}

/// Dimensions of the attention blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionConfig {
    /// Heads.
    pub num_heads: PerStage,
    /// Leading channels of each head that are rotated; 0 for none.
    pub rotary_emb_dim: PerStage,
    /// A token sees this many tokens before it; -1 for all.
    pub window_size: PerStage,
}

impl Default for AttentionConfig {
    fn default() -> Self {
        Self {
            num_heads: PerStage::Shared(1),
            rotary_emb_dim: PerStage::Shared(0),
            window_size: PerStage::Shared(-1),
        }
    }
}

/// Which details of the reference implementation are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    /// As the paper has it: the first chunk of a sequence is not scaled, the
    /// residual bias starts at zero, and norms, biases, A, Δ, D, pads and embeddings
    /// are exempt from weight decay.
    #[default]
    Strict,
    /// As the reference code has it: the first chunk is clamped to 0.9999, the
    /// residual bias keeps its uniform start, and only names with `.bias` or `.norm.` are exempt.
    Parity,
}

/// What decides where chunks start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chunking {
    /// The router, from the data.
    #[default]
    Learned,
    /// Every N-th token of a sequence, N being the stage's ratio: a control.
    Stride,
    /// One token in N on average, by a hash of its place in the sequence: a control.
    Random,
    /// The codons of an annotation, a control. Tokens say where chunks of the outermost stage
    /// start: there they are higher by the size of the vocabulary. Inner stages have strides.
    Codons,
}

/// What the upstream configuration lacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extension {
    /// How bases become tokens; by default `dna` for a vocabulary of 8, else `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<Alphabet>,
    /// Target N of each routed stage: one chunk in N tokens.
    pub ratio: Vec<f64>,
    /// What decides where chunks start; the controls need a ratio for each routed stage.
    #[serde(skip_serializing_if = "is_default")]
    pub chunking: Chunking,
    /// Weight of the ratio losses.
    pub alpha: f64,
    /// Learning-rate multiplier of each stage, outermost first; by default all 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lr_multipliers: Vec<f64>,
    /// Details of the reference to follow.
    pub numerics: Numerics,
    /// Longest context the model was trained on, in bases; 0 when unknown.
    pub context: i64,
    /// Details of the Mamba-3 blocks; there wherever the layout has such blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba3: Option<Mamba3Config>,
}

impl Default for Extension {
    fn default() -> Self {
        Self {
            alphabet: None,
            ratio: Vec::new(),
            chunking: Chunking::default(),
            alpha: 0.015,
            lr_multipliers: Vec::new(),
            numerics: Numerics::default(),
            context: 0,
            mamba3: None,
        }
    }
}

/// A model configuration; see the field names for the keys of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks of every stage.
    pub arch_layout: Arch,
    /// Width of every stage, never decreasing inwards.
    pub d_model: Vec<i64>,
    /// SwiGLU width of every stage, rounded up to a multiple of 128; 0 where unused.
    pub d_intermediate: Vec<i64>,
    /// Tokens.
    #[serde(default = "bytes_vocabulary")]
    pub vocab_size: i64,
    /// Mamba-2 dimensions.
    #[serde(default)]
    pub ssm_cfg: SsmConfig,
    /// Attention dimensions.
    #[serde(default)]
    pub attn_cfg: AttentionConfig,
    /// Whether the output layer is the embedding.
    #[serde(default)]
    pub tie_embeddings: bool,
    /// What upstream lacks.
    #[serde(default)]
    pub cistron: Extension,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn bytes_vocabulary() -> i64 {
    256
}

impl Config {
    /// Parses and validates the text of a `config.json`.
    ///
    /// # Errors
    ///
    /// Unknown keys, wrong types, and whatever [`Config::validate`] refuses; `path`
    /// is named in the message.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, ModelError> {
        let config: Self = serde_json::from_str(text)
            .map_err(|error| ModelError::format(path, format!("model config: {error}")))?;
        let config = config.settled();
        config
            .validate()
            .map_err(|error| ModelError::format(path, error.to_string()))?;
        Ok(config)
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    ///
    /// As [`Config::from_json`], or the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(|error| ModelError::io(path, error))?;
        Self::from_json(&text, path)
    }

    /// Puts in the details that the layout needs and the text left out, so that a model records
    /// them.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let mamba3 = [MixerKind::Mamba3Siso, MixerKind::Mamba3Mimo];
        let stages = self.arch_layout.stacks();
        let mut stacks = stages.iter().flatten();
        if stacks.any(|stack| mamba3.iter().any(|&mixer| stack.has(mixer))) {
            self.cistron.mamba3.get_or_insert_default();
        }
        self
    }

    /// Number of stages with a width of their own, one more than the routers.
    pub fn stages(&self) -> usize {
        self.arch_layout.routed_stages() + 1
    }

    /// How bases become tokens.
    pub fn alphabet(&self) -> Alphabet {
        self.cistron.alphabet.unwrap_or(if self.vocab_size == 8 {
            Alphabet::Dna
        } else {
            Alphabet::Bytes
        })
    }

    /// SwiGLU width of `stage`, rounded up to a multiple of 128.
    pub fn ffn_width(&self, stage: usize) -> i64 {
        (self.d_intermediate[stage] + 127) / 128 * 128
    }

    /// Target N of a routed stage; without one the stage has no ratio loss.
    pub fn ratio(&self, stage: usize) -> Option<f64> {
        self.cistron.ratio.get(stage).copied()
    }

    /// Learning-rate multiplier of `stage`.
    pub fn lr_multiplier(&self, stage: usize) -> f64 {
        self.cistron
            .lr_multipliers
            .get(stage)
            .copied()
            .unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TWO_STAGES: &str = r#"{"arch_layout": ["m2", ["T1m1", ["T2"], "m1T1"], "m2"],
        "d_model": [64, 96, 128], "d_intermediate": [0, 256, 340], "vocab_size": 8,
        "ssm_cfg": {"d_state": 16, "headdim": [32, 64, 64]},
        "attn_cfg": {"num_heads": 4, "rotary_emb_dim": [8, 12, 16], "window_size": [31, 31, -1]},
        "cistron": {"ratio": [3, 2], "alpha": 0.02}}"#;

    pub(super) fn parse(text: &str) -> Result<Config, ModelError> {
        Config::from_json(text, Path::new("config.json"))
    }

    #[test]
    fn reads_upstream_keys_and_the_extension() {
        let config = parse(TWO_STAGES).expect("valid");
        assert_eq!(config.stages(), 3);
        assert_eq!(config.ffn_width(2), 384);
        assert_eq!(config.ssm_cfg.headdim.at(0), 32);
        assert_eq!(config.alphabet(), Alphabet::Dna);
        let again = parse(&serde_json::to_string(&config).expect("json")).expect("round trip");
        assert_eq!(config, again);
    }
}
