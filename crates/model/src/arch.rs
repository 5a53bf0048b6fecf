//! The architecture layout: which blocks make up each stage.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ModelError;

/// Sequence mixer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixerKind {
    /// `m`, `M`: Mamba-2.
    Mamba2,
    /// `t`, `T`: causal multi-head attention.
    Attention,
    /// `b`, `B`: Mamba-3 with one input a head (SISO).
    Mamba3Siso,
    /// `r`, `R`: Mamba-3 with several inputs a head (MIMO).
    Mamba3Mimo,
}

/// One pre-norm residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The sequence mixer.
    pub mixer: MixerKind,
    /// Whether a SwiGLU follows it (upper-case letters).
    pub ffn: bool,
}

/// A stack of blocks, written as letters with counts: `m4`, `T1m4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    text: String,
    blocks: Vec<Block>,
}

impl Stack {
    /// Parses `([mMtTbBrR][0-9]+)+`.
    ///
    /// # Errors
    ///
    /// Names the letter that is unknown or the place where a count is missing.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let fail =
            |problem: String| ModelError::config("arch_layout", format!("'{text}': {problem}"));
        let mut blocks = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let mixer = match letter {
                'm' | 'M' => MixerKind::Mamba2,
                't' | 'T' => MixerKind::Attention,
                'b' | 'B' => MixerKind::Mamba3Siso,
                'r' | 'R' => MixerKind::Mamba3Mimo,
                other => {
                    return Err(fail(format!(
                        "unknown letter '{other}'; expected m or M (Mamba-2), t or T (attention), \
                         b or B (Mamba-3 SISO), r or R (Mamba-3 MIMO), each followed by a count, as in m4 or T1m4"
                    )));
                }
            };
            rest = &rest[letter.len_utf8()..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let count = rest[..digits]
                .parse::<usize>()
                .ok()
                .filter(|&count| (1..=4096).contains(&count))
                .ok_or_else(|| {
                    fail(format!(
                        "letter '{letter}' needs a count from 1, as in {letter}4"
                    ))
                })?;
            blocks.resize(
                blocks.len() + count,
                Block {
                    mixer,
                    ffn: letter.is_ascii_uppercase(),
                },
            );
            rest = &rest[digits..];
        }
        if blocks.is_empty() {
            return Err(fail("a stack needs one block at least, as in m4".into()));
        }
        Ok(Self {
            text: text.to_owned(),
            blocks,
        })
    }

    /// The blocks, first to last.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Number of residual branches.
    pub fn height(&self) -> i64 {
        self.blocks
            .iter()
            .map(|block| 1 + i64::from(block.ffn))
            .sum()
    }

    /// Whether any block has this mixer.
    pub fn has(&self, mixer: MixerKind) -> bool {
        self.blocks.iter().any(|block| block.mixer == mixer)
    }
}

impl std::fmt::Display for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The nested layout: `["m4", ["T1m4", ["T12"], "m4T1"], "m4"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arch {
    /// The innermost network, written as a list of one string.
    Main(Stack),
    /// A chunking stage, written as a list of encoder, inner layout and decoder.
    Routed {
        /// Before the router.
        encoder: Stack,
        /// What runs on the chunks.
        inner: Box<Arch>,
        /// After the dechunk layer.
        decoder: Stack,
    },
}

impl Arch {
    /// Number of chunking stages; widths are one more.
    pub fn routed_stages(&self) -> usize {
        match self {
            Self::Main(_) => 0,
            Self::Routed { inner, .. } => 1 + inner.routed_stages(),
        }
    }

    /// The stacks of each stage, outermost first: (encoder, decoder), and the main network last.
    pub fn stacks(&self) -> Vec<Vec<&Stack>> {
        let mut stages = Vec::new();
        let mut arch = self;
        loop {
            match arch {
                Self::Main(stack) => {
                    stages.push(vec![stack]);
                    return stages;
                }
                Self::Routed {
                    encoder,
                    inner,
                    decoder,
                } => {
                    stages.push(vec![encoder, decoder]);
                    arch = inner;
                }
            }
        }
    }

    fn from_json(value: &serde_json::Value) -> Result<Self, ModelError> {
        let fail = || {
            ModelError::config(
                "arch_layout",
                format!(
                    "{value}: expected a list of one string (the innermost network) or of three \
                     (encoder, inner layout, decoder), as in [\"m4\", [\"T8\"], \"m4\"]"
                ),
            )
        };
        let text =
            |value: &serde_json::Value| value.as_str().ok_or_else(fail).and_then(Stack::parse);
        match value.as_array().map(Vec::as_slice) {
            Some([main]) => Ok(Self::Main(text(main)?)),
            Some([encoder, inner, decoder]) => Ok(Self::Routed {
                encoder: text(encoder)?,
                inner: Box::new(Self::from_json(inner)?),
                decoder: text(decoder)?,
            }),
            _ => Err(fail()),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Main(stack) => serde_json::json!([stack.text]),
            Self::Routed {
                encoder,
                inner,
                decoder,
            } => {
                serde_json::json!([encoder.text, inner.to_json(), decoder.text])
            }
        }
    }
}

impl Serialize for Arch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Arch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(|error| match error {
            ModelError::Config { problem, .. } => serde::de::Error::custom(problem),
            other => serde::de::Error::custom(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_layouts_round_trip() {
        let json = r#"["m4",["T1m4",["T12"],"m4T1"],"m4"]"#;
        let arch: Arch = serde_json::from_str(json).expect("valid");
        assert_eq!(arch.routed_stages(), 2);
        assert_eq!(arch.stacks()[1][0].height(), 6);
        assert_eq!(serde_json::to_string(&arch).expect("json"), json);
    }

    #[test]
    fn errors_name_the_letter() {
        for (text, part) in [
            ("m4x2", "'x'"),
            ("m", "'m' needs"),
            ("T0", "'T' needs"),
            ("", "one block"),
        ] {
            let error = Stack::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(serde_json::from_str::<Arch>(r#"["m4",["T1"]]"#).is_err());
    }
}
