//! Which configurations describe a model.

use cistron_genome::alphabet::Alphabet;

use super::{Chunking, Config, PerStage};
use crate::ModelError;
use crate::arch::MixerKind;

/// Largest width or count: far beyond any model, and products of a few do not overflow.
const LARGEST: i64 = 1 << 16;

impl PerStage {
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
        (0..stages).try_for_each(|stage| in_range(key, self.at(stage), minimum, i64::MAX))
    }

    /// As [`PerStage::check`], for what parameters are sized by.
    fn check_size(&self, key: &str, stages: usize, minimum: i64) -> Result<(), ModelError> {
        self.check(key, stages, minimum)?;
        (0..stages).try_for_each(|stage| in_range(key, self.at(stage), minimum, LARGEST))
    }
}

fn in_range(key: &str, value: i64, minimum: i64, maximum: i64) -> Result<(), ModelError> {
    let problem = if value < minimum {
        format!("{value}: expected {minimum} or more")
    } else if value > maximum {
        format!("{value}: expected {maximum} at most")
    } else {
        return Ok(());
    };
    Err(ModelError::config(key, problem))
}

impl Config {
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
        for (&width, &ffn) in self.d_model.iter().zip(&self.d_intermediate) {
            in_range("d_model", width, 1, LARGEST)?;
            in_range("d_intermediate", ffn, 0, LARGEST)?;
        }
        if self.d_model.windows(2).any(|pair| pair[1] < pair[0]) {
            return fail(
                "d_model",
                format!("{:?}: widths must not decrease inwards", self.d_model),
            );
        }
        in_range("vocab_size", self.vocab_size, 2, LARGEST)?;
        let needed = self.alphabet().vocab_size();
        if (needed as i64) > self.vocab_size {
            let problem = match self.cistron.alphabet {
                Some(_) => format!("{}: the alphabet needs {needed}", self.vocab_size),
                None => format!(
                    "{}: expected 8 (the dna alphabet) or {needed} (bytes), or more with \
                     cistron.alphabet",
                    self.vocab_size
                ),
            };
            return fail("vocab_size", problem);
        }
        let ssm = &self.ssm_cfg;
        ssm.d_conv.check_size("ssm_cfg.d_conv", stages, 2)?;
        ssm.expand.check_size("ssm_cfg.expand", stages, 1)?;
        ssm.d_state.check_size("ssm_cfg.d_state", stages, 1)?;
        ssm.chunk_size.check("ssm_cfg.chunk_size", stages, 1)?;
        ssm.headdim.check_size("ssm_cfg.headdim", stages, 1)?;
        ssm.ngroups.check("ssm_cfg.ngroups", stages, 1)?;
        let attention = &self.attn_cfg;
        attention
            .num_heads
            .check_size("attn_cfg.num_heads", stages, 1)?;
        attention
            .rotary_emb_dim
            .check("attn_cfg.rotary_emb_dim", stages, 0)?;
        attention
            .window_size
            .check("attn_cfg.window_size", stages, -1)?;
        for (stage, stacks) in self.arch_layout.stacks().iter().enumerate() {
            let width = self.d_model[stage];
            let has = |mixer| stacks.iter().any(|stack| stack.has(mixer));
            let mamba3 = has(MixerKind::Mamba3Siso) || has(MixerKind::Mamba3Mimo);
            if has(MixerKind::Mamba2) || mamba3 {
                let (inner, head) = (width * ssm.expand.at(stage), ssm.headdim.at(stage));
                if inner % head != 0 {
                    return fail(
                        "d_model",
                        format!(
                            "stage {stage}: expand * d_model = {inner} is not divisible by the \
                             Mamba head size ssm_cfg.headdim = {head}"
                        ),
                    );
                }
            }
            if has(MixerKind::Mamba2) && ssm.ngroups.at(stage) != 1 {
                return fail("ssm_cfg.ngroups", "only 1 is supported with Mamba-2".into());
            }
            if mamba3 {
                self.validate_mamba3(stage)?;
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
        if extension.chunking != Chunking::Learned && extension.ratio.is_empty() && routed > 0 {
            return fail(
                "cistron.chunking",
                "stride, random and codons need cistron.ratio, a value for each routed stage"
                    .into(),
            );
        }
        if extension.chunking == Chunking::Codons && self.alphabet() != Alphabet::Dna {
            return fail(
                "cistron.chunking",
                "codons need the alphabet dna, whose tokens can be marked".into(),
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
        if let Some(bad) = extension
            .lr_multipliers
            .iter()
            .find(|&&multiplier| !(multiplier >= 0.0 && multiplier.is_finite()))
        {
            return fail(
                "cistron.lr_multipliers",
                format!("{bad}: expected 0 or more"),
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
    use super::super::tests::{TWO_STAGES, parse};

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
            ("[64, 96, 128]", "[64, 96, 4000000000]", "65536 at most"),
            (
                "\"d_state\": 16",
                "\"d_state\": 4000000000",
                "65536 at most",
            ),
            (
                "\"d_state\": 16",
                "\"d_state\": \"16\"",
                "an integer, or a list",
            ),
            ("\"alpha\": 0.02", "\"lr_multipliers\": [1, 1, -1]", "-1"),
            ("\"alpha\": 0.02", "\"alphabet\": \"bytes\"", "needs 256"),
            ("\"vocab_size\": 8", "\"vocab_size\": 16", "vocab_size: 16"),
        ] {
            let error = parse(&TWO_STAGES.replace(from, to))
                .expect_err(to)
                .to_string();
            assert!(error.contains(part), "{to}: {error}");
        }
    }
}
