//! `config.json`: the upstream H-Net keys, and what upstream lacks under `cistron`.

use std::path::Path;

use cistron_genome::alphabet::Alphabet;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::arch::{Arch, MixerKind};

/// A value for all stages, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
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

    fn check(&self, key: &str, stages: usize, minimum: i64) -> Result<(), ModelError> {
        if let Self::Each(values) = self
            && values.len() != stages
        {
            return Err(ModelError::config(
                key,
                format!(
                    "{} values for {stages} stages: expected one a stage",
                    values.len()
                ),
            ));
        }
        match (0..stages)
            .map(|stage| self.at(stage))
            .find(|&value| value < minimum)
        {
            Some(value) => Err(ModelError::config(
                key,
                format!("{value}: expected {minimum} or more"),
            )),
            None => Ok(()),
        }
    }
}

/// Dimensions of the Mamba-2 blocks.
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
    /// Groups of B and C; only 1 is built.
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

/// What the upstream configuration lacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extension {
    /// How bases become tokens; by default `dna` for a vocabulary of 8, else `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<Alphabet>,
    /// Target N of each routed stage: one chunk in N tokens.
    pub ratio: Vec<f64>,
    /// Weight of the ratio losses.
    pub alpha: f64,
    /// Learning-rate multiplier of each stage, outermost first; by default all 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lr_multipliers: Vec<f64>,
    /// Details of the reference to follow.
    pub numerics: Numerics,
    /// Longest context the model was trained on, in bases; 0 when unknown.
    pub context: i64,
}

impl Default for Extension {
    fn default() -> Self {
        Self {
            alphabet: None,
            ratio: Vec::new(),
            alpha: 0.015,
            lr_multipliers: Vec::new(),
            numerics: Numerics::default(),
            context: 0,
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

    /// Checks that the parts fit together.
    ///
    /// # Errors
    ///
    /// Names the first key at fault, with what was found and what is expected.
    pub fn validate(&self) -> Result<(), ModelError> {
        let stages = self.stages();
        let fail = |key: &str, problem: String| Err(ModelError::config(key, problem));
        for (key, list) in [
            ("d_model", &self.d_model),
            ("d_intermediate", &self.d_intermediate),
        ] {
            if list.len() != stages {
                return fail(
                    key,
                    format!(
                        "{} values, but arch_layout has {stages} stage(s): expected one a stage",
                        list.len()
                    ),
                );
            }
        }
        if self.d_model.iter().any(|&d| d < 1) {
            return fail(
                "d_model",
                format!("{:?}: expected positive widths", self.d_model),
            );
        }
        if self.d_model.windows(2).any(|pair| pair[1] < pair[0]) {
            return fail(
                "d_model",
                format!("{:?}: widths must not decrease inwards", self.d_model),
            );
        }
        if self.vocab_size < 2 {
            return fail(
                "vocab_size",
                format!("{}: expected 2 or more", self.vocab_size),
            );
        }
        if let Some(alphabet) = self.cistron.alphabet
            && (alphabet.vocab_size() as i64) > self.vocab_size
        {
            return fail(
                "vocab_size",
                format!(
                    "{}: the alphabet needs {}",
                    self.vocab_size,
                    alphabet.vocab_size()
                ),
            );
        }
        let ssm = &self.ssm_cfg;
        ssm.d_conv.check("ssm_cfg.d_conv", stages, 2)?;
        ssm.expand.check("ssm_cfg.expand", stages, 1)?;
        ssm.d_state.check("ssm_cfg.d_state", stages, 1)?;
        ssm.chunk_size.check("ssm_cfg.chunk_size", stages, 1)?;
        ssm.headdim.check("ssm_cfg.headdim", stages, 1)?;
        ssm.ngroups.check("ssm_cfg.ngroups", stages, 1)?;
        let attention = &self.attn_cfg;
        attention.num_heads.check("attn_cfg.num_heads", stages, 1)?;
        attention
            .rotary_emb_dim
            .check("attn_cfg.rotary_emb_dim", stages, 0)?;
        attention
            .window_size
            .check("attn_cfg.window_size", stages, -1)?;
        for (stage, stacks) in self.arch_layout.stacks().iter().enumerate() {
            let width = self.d_model[stage];
            let has = |mixer| stacks.iter().any(|stack| stack.has(mixer));
            if has(MixerKind::Mamba2) {
                let (inner, head) = (width * ssm.expand.at(stage), ssm.headdim.at(stage));
                if inner % head != 0 {
                    return fail(
                        "d_model",
                        format!(
                            "stage {stage}: expand * d_model = {inner} is not divisible by the \
                             Mamba-2 head size ssm_cfg.headdim = {head}"
                        ),
                    );
                }
                if ssm.ngroups.at(stage) != 1 {
                    return fail("ssm_cfg.ngroups", "only 1 is supported".into());
                }
            }
            if has(MixerKind::Attention) {
                let (heads, rotary) = (
                    attention.num_heads.at(stage),
                    attention.rotary_emb_dim.at(stage),
                );
                if width % heads != 0 {
                    return fail(
                        "d_model",
                        format!(
                            "stage {stage}: {width} is not divisible by attn_cfg.num_heads = {heads}"
                        ),
                    );
                }
                if rotary % 2 != 0 || rotary > width / heads {
                    return fail(
                        "attn_cfg.rotary_emb_dim",
                        format!(
                            "stage {stage}: {rotary}: expected an even number up to the head \
                             size {}",
                            width / heads
                        ),
                    );
                }
            }
            let ffn = stacks
                .iter()
                .any(|stack| stack.blocks().iter().any(|block| block.ffn));
            if ffn && self.d_intermediate[stage] < 1 {
                return fail(
                    "d_intermediate",
                    format!("stage {stage} has upper-case blocks, which need a positive width"),
                );
            }
        }
        let routed = stages - 1;
        let extension = &self.cistron;
        if !extension.ratio.is_empty() && extension.ratio.len() != routed {
            return fail(
                "cistron.ratio",
                format!(
                    "{} values for {routed} routed stage(s)",
                    extension.ratio.len()
                ),
            );
        }
        if let Some(bad) = extension
            .ratio
            .iter()
            .find(|&&n| !(n > 1.0 && n.is_finite()))
        {
            return fail("cistron.ratio", format!("{bad}: expected more than 1"));
        }
        if !extension.lr_multipliers.is_empty() && extension.lr_multipliers.len() != stages {
            return fail(
                "cistron.lr_multipliers",
                format!(
                    "{} values for {stages} stage(s)",
                    extension.lr_multipliers.len()
                ),
            );
        }
        if !(extension.alpha >= 0.0 && extension.alpha.is_finite()) {
            return fail(
                "cistron.alpha",
                format!("{}: expected 0 or more", extension.alpha),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_STAGES: &str = r#"{"arch_layout": ["m2", ["T1m1", ["T2"], "m1T1"], "m2"],
        "d_model": [64, 96, 128], "d_intermediate": [0, 256, 340], "vocab_size": 8,
        "ssm_cfg": {"d_state": 16, "headdim": [32, 64, 64]},
        "attn_cfg": {"num_heads": 4, "rotary_emb_dim": [8, 12, 16], "window_size": [31, 31, -1]},
        "cistron": {"ratio": [3, 2], "alpha": 0.02}}"#;

    fn parse(text: &str) -> Result<Config, ModelError> {
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

    #[test]
    fn errors_name_the_key() {
        for (from, to, part) in [
            ("[64, 96, 128]", "[64, 96]", "d_model"),
            ("[64, 96, 128]", "[96, 64, 128]", "decrease"),
            ("\"num_heads\": 4", "\"num_heads\": 5", "num_heads = 5"),
            ("[32, 64, 64]", "[48, 64, 64]", "headdim = 48"),
            ("\"ratio\": [3, 2]", "\"ratio\": [3]", "cistron.ratio"),
            ("\"vocab_size\"", "\"vocab\"", "vocab"),
            ("m1T1", "m1X1", "'X'"),
        ] {
            let error = parse(&TWO_STAGES.replace(from, to))
                .expect_err(to)
                .to_string();
            assert!(error.contains(part), "{to}: {error}");
        }
    }
}
