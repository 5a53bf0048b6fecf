//! The shape of a Lyra network.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// How the positions of a sequence become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean over the positions of the sequence.
    #[default]
    Mean,
    /// None: one output a position.
    None,
    /// A sum over positions, each channel weighted by position, of the difference to the same
    /// network's vectors of a wild type; and a learned code of each position is added to its
    /// letter. Not of the published network, whose mean forgets where a substitution is.
    Position,
}

/// The shape of a [`Lyra`](super::Lyra) network. The default, but for the two sizes that data
/// decide, is the published one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LyraConfig {
    /// Width of the input: letters of the alphabet, or width of an embedding.
    pub d_input: i64,
    /// Number of outputs.
    pub d_output: i64,
    /// Width D of the network.
    pub d_model: i64,
    /// Size N of the state of a channel; even, as poles come in conjugate pairs.
    pub d_state: i64,
    /// Chance of a channel to be left out in training.
    pub dropout: f64,
    /// Taps of the depthwise convolutions; odd, unless `causal`.
    pub kernel_size: i64,
    /// Width of each projected gated convolution over D.
    pub expansions: Vec<f64>,
    /// Residual S4D blocks.
    pub depth: i64,
    /// S4D kernels that also look to the right.
    pub bidirectional: bool,
    /// Convolutions that look to the left alone, so that position t depends on 0..=t.
    pub causal: bool,
    /// Gates, GELU and GLU. Without them, and without norms, the network is a linear map.
    pub nonlinear: bool,
    /// From positions to the output.
    pub pooling: Pooling,
    /// Length of the wild type, for [`Pooling::Position`] alone.
    pub length: Option<i64>,
    /// What is known of amino acids, beside their letters; for 20 letters, or 21 with a stop. Not
    /// of the published network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub properties: bool,
    /// Width of a gated layer between pooling and the output; 0 for none. Not of the published
    /// network.
    #[serde(skip_serializing_if = "is_zero")]
    pub readout: i64,
    /// A monotone curve behind each output. Not of the published network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub curve: bool,
    /// Letters have a vector of their own at each position, beside the one that they have
    /// everywhere; with [`Pooling::Position`]. Not of the published network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sites: bool,
    /// With `sites`: networks that read all sites at once and share all but a few factors, in place of
    /// gated convolutions, state spaces and pooling; 0 for none. Not of the published network.
    #[serde(skip_serializing_if = "is_zero")]
    pub members: i64,
    /// With `members`: for each output one more, which learns the rank of the value.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ranks: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Default for LyraConfig {
    fn default() -> Self {
        Self {
            d_input: 20,
            d_output: 1,
            d_model: 64,
            d_state: 64,
            dropout: 0.2,
            kernel_size: 3,
            expansions: vec![0.25, 2.0],
            depth: 1,
            bidirectional: false,
            causal: false,
            nonlinear: true,
            pooling: Pooling::Mean,
            length: None,
            properties: false,
            readout: 0,
            curve: false,
            sites: false,
            members: 0,
            ranks: false,
        }
    }
}

impl LyraConfig {
    /// Refuses shapes that cannot be built.
    ///
    /// # Errors
    ///
    /// Names the first key at fault.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("d_input", self.d_input),
            ("d_output", self.d_output),
            ("d_model", self.d_model),
            ("d_state", self.d_state),
            ("kernel_size", self.kernel_size),
        ];
        for (key, value) in positive {
            if !(1..=65_536).contains(&value) {
                let problem = format!("{value}; expected a number from 1 to 65536");
                return Err(ModelError::config(key, problem));
            }
        }
        let refuse = |key: &str, problem: String| Err(ModelError::config(key, problem));
        if self.d_state % 2 != 0 {
            let problem = format!("{}; expected an even number", self.d_state);
            return refuse("d_state", problem);
        }
        if self.kernel_size % 2 == 0 && !self.causal {
            let problem = format!(
                "{}; expected an odd number, or causal convolutions",
                self.kernel_size
            );
            return refuse("kernel_size", problem);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let problem = format!("{}; expected at least 0 and below 1", self.dropout);
            return refuse("dropout", problem);
        }
        if !(0..=64).contains(&self.depth) {
            let problem = format!("{}; expected 0 to 64", self.depth);
            return refuse("depth", problem);
        }
        for &expansion in &self.expansions {
            if !(self.inner(expansion) >= 1 && expansion <= 64.0) {
                let problem = format!("{expansion}; expected at least 1/d_model and at most 64");
                return refuse("expansions", problem);
            }
        }
        if self.causal && self.bidirectional {
            let problem = "a kernel that looks both ways is not causal; take one of them";
            return refuse("bidirectional", problem.into());
        }
        if self.properties && !(20..=21).contains(&self.d_input) {
            let problem = "goes with the 20 amino acids as input, or 21 with a stop";
            return refuse("properties", problem.into());
        }
        if !(0..=65_536).contains(&self.readout) {
            let problem = format!("{}; expected a number from 0 to 65536", self.readout);
            return refuse("readout", problem);
        }
        if self.sites && self.pooling != Pooling::Position {
            return refuse("sites", "goes with position pooling alone".into());
        }
        if !(0..=256).contains(&self.members) {
            let problem = format!("{}; expected a number from 0 to 256", self.members);
            return refuse("members", problem);
        }
        if self.members > 0 && !(self.sites && self.nonlinear) {
            return refuse("members", "go with sites, and with nonlinearities".into());
        }
        if self.ranks && self.members == 0 {
            return refuse("ranks", "go with members alone".into());
        }
        match (self.pooling, self.length) {
            (Pooling::Position, Some(length)) if length > 0 => Ok(()),
            (Pooling::Position, _) => refuse("length", "position pooling needs one".into()),
            (_, None) => Ok(()),
            (_, Some(_)) => refuse("length", "goes with position pooling alone".into()),
        }
    }

    /// Width of a gated convolution of this expansion.
    pub(super) fn inner(&self, expansion: f64) -> i64 {
        (expansion * self.d_model as f64) as i64
    }

    /// Positions to the left and to the right that one gated convolution sees.
    pub(super) fn taps(&self) -> (i64, i64) {
        let all = self.kernel_size - 1;
        let left = if self.causal { all } else { all / 2 };
        (left, all - left)
    }

    /// Positions to the left and to the right that all gated convolutions see.
    pub(super) fn reach(&self) -> (i64, i64) {
        let layers = self.expansions.len() as i64;
        let (left, right) = self.taps();
        (layers * left, layers * right)
    }
}
