//! `cistron.mamba3`: what Mamba-3 blocks need beyond `ssm_cfg`, and the sizes that follow.

use serde::{Deserialize, Serialize};

use super::{Config, PerStage};
use crate::ModelError;

/// How the decay rate follows from its projection `u`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayActivation {
    /// `ln(1 + e^u)`, as in the paper. Rates near zero, and so long memories, are near at hand.
    #[default]
    Softplus,
    /// `1 + u` for `u ≥ 0`, else `1 / (1 - u)`, as in later reference code.
    HeavyTail,
}

/// Which channels of B and C turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotaryLayout {
    /// That of the reference code: `pairwise` in SISO blocks, `half` in MIMO blocks.
    #[default]
    Reference,
    /// Channel 2 i with 2 i + 1.
    Pairwise,
    /// Channel i with i + `d_state` / 2.
    Half,
}

impl RotaryLayout {
    /// Whether channel i turns with i + `d_state` / 2.
    pub fn halves(self, mimo: bool) -> bool {
        match self {
            Self::Reference => mimo,
            Self::Pairwise => false,
            Self::Half => true,
        }
    }
}

/// Details of the Mamba-3 blocks; head size, state size, groups and expansion are in `ssm_cfg`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mamba3Config {
    /// Part of the state channels that turn, 0 to 1.
    pub rope_fraction: f64,
    /// Inputs of a head at each token in MIMO blocks, 1 to 8.
    pub rank: PerStage,
    /// Whether each head is normed before the gate.
    pub out_proj_norm: bool,
    /// How the decay rate follows from its projection.
    pub a_activation: DecayActivation,
    /// Least decay rate. It bounds memories: states fade over about its inverse, in units of Δ.
    pub a_floor: f64,
    /// Which channels of B and C turn together.
    pub rotary_layout: RotaryLayout,
}

impl Default for Mamba3Config {
    fn default() -> Self {
        Self {
            rope_fraction: 0.5,
            rank: PerStage::Shared(4),
            out_proj_norm: false,
            a_activation: DecayActivation::default(),
            a_floor: 1e-4,
            rotary_layout: RotaryLayout::default(),
        }
    }
}

/// Sizes and details of one Mamba-3 block.
#[derive(Debug, Clone, PartialEq)]
pub struct Mamba3Shape {
    /// Model width.
    pub width: i64,
    /// Heads.
    pub heads: i64,
    /// Channels a head.
    pub head_dim: i64,
    /// State size of each channel.
    pub states: i64,
    /// Groups of B and C.
    pub groups: i64,
    /// Inputs of a head at each token; 1 in SISO blocks.
    pub rank: i64,
    /// Whether x, gate and output have factors for each rank.
    pub mimo: bool,
    /// Channel pairs that turn.
    pub angles: i64,
    /// Channel i turns with i + states / 2; else 2 i with 2 i + 1.
    pub halves: bool,
    /// Whether each head is normed before the gate.
    pub norm: bool,
    /// How the decay rate follows from its projection.
    pub activation: DecayActivation,
    /// Least decay rate.
    pub floor: f64,
}

/// Channel pairs that turn among `states` channels: half of an even number of channels.
pub fn turning_pairs(states: i64, rope_fraction: f64) -> i64 {
    ((states as f64 * rope_fraction) as i64) / 2
}

impl Mamba3Shape {
    /// The block of `stage`, MIMO or SISO.
    pub fn of(config: &Config, stage: usize, mimo: bool) -> Self {
        let ssm = &config.ssm_cfg;
        let own = config.cistron.mamba3.clone().unwrap_or_default();
        let (width, head_dim) = (config.d_model[stage], ssm.headdim.at(stage));
        let states = ssm.d_state.at(stage);
        Self {
            width,
            heads: width * ssm.expand.at(stage) / head_dim,
            head_dim,
            states,
            groups: ssm.ngroups.at(stage),
            rank: if mimo { own.rank.at(stage) } else { 1 },
            mimo,
            angles: turning_pairs(states, own.rope_fraction),
            halves: own.rotary_layout.halves(mimo),
            norm: own.out_proj_norm,
            activation: own.a_activation,
            floor: own.a_floor,
        }
    }

    /// Channels of all heads.
    pub fn inner(&self) -> i64 {
        self.heads * self.head_dim
    }

    /// Values of B, and of C, a token.
    pub fn projection(&self) -> i64 {
        self.groups * self.rank * self.states
    }

    /// Rows of the in-projection: z, x, B, C, Δ, A, λ and θ.
    pub fn widths(&self) -> [i64; 8] {
        let (inner, wide, heads) = (self.inner(), self.projection(), self.heads);
        [inner, inner, wide, wide, heads, heads, heads, self.angles]
    }

    /// Names and shapes of the parameters: those of the reference module.
    pub fn parameters(&self) -> Vec<(&'static str, Vec<i64>)> {
        let (heads, rank, states) = (self.heads, self.rank, self.states);
        let mut list = vec![
            (
                "in_proj.weight",
                vec![self.widths().iter().sum(), self.width],
            ),
            ("dt_bias", vec![heads]),
            ("B_bias", vec![heads, rank, states]),
            ("C_bias", vec![heads, rank, states]),
            ("B_norm.weight", vec![states]),
            ("C_norm.weight", vec![states]),
            ("D", vec![heads]),
        ];
        if self.mimo {
            for name in ["mimo_x", "mimo_z", "mimo_o"] {
                list.push((name, vec![heads, rank, self.head_dim]));
            }
        }
        if self.norm {
            list.push(("norm.weight", vec![self.inner()]));
        }
        list.push(("out_proj.weight", vec![self.width, self.inner()]));
        list
    }

    /// Floating-point operations of a token: products, the state's decay, inputs and outputs, the
    /// turning of B and C, and the gate.
    pub fn flops(&self) -> f64 {
        let [inner, states, rank] = [self.inner(), self.states, self.rank].map(|n| n as f64);
        let (width, heads) = (self.width as f64, self.heads as f64);
        let rows: i64 = self.widths().iter().sum();
        let products = 2.0 * width * (rows as f64 + inner);
        let scan = inner * states * (2.0 + 4.0 * rank);
        let turning = heads * rank * (12.0 * self.angles as f64 + 2.0 * states);
        products + scan + turning + 5.0 * inner * rank
    }
}

impl Config {
    /// Checks a stage that has Mamba-3 blocks; head sizes are checked with those of Mamba-2.
    pub(super) fn validate_mamba3(&self, stage: usize) -> Result<(), ModelError> {
        let ssm = &self.ssm_cfg;
        let own = self.cistron.mamba3.clone().unwrap_or_default();
        let fail = |key: &str, problem: String| Err(ModelError::config(key, problem));
        let states = ssm.d_state.at(stage);
        if states % 2 != 0 {
            let problem = format!(
                "stage {stage}: {states}: Mamba-3 turns channels in pairs, expected an even number"
            );
            return fail("ssm_cfg.d_state", problem);
        }
        let heads = self.d_model[stage] * ssm.expand.at(stage) / ssm.headdim.at(stage);
        let groups = ssm.ngroups.at(stage);
        if heads % groups != 0 {
            let problem =
                format!("stage {stage}: {groups}: expected a divisor of the {heads} heads");
            return fail("ssm_cfg.ngroups", problem);
        }
        if let PerStage::Each(ranks) = &own.rank
            && ranks.len() != self.stages()
        {
            let problem = format!(
                "{} values for {} stages: expected one a stage",
                ranks.len(),
                self.stages()
            );
            return fail("cistron.mamba3.rank", problem);
        }
        let rank = own.rank.at(stage);
        if !(1..=8).contains(&rank) {
            return fail("cistron.mamba3.rank", format!("{rank}: expected 1 to 8"));
        }
        let fraction = own.rope_fraction;
        if !(0.0..=1.0).contains(&fraction) {
            let problem = format!("{fraction}: expected 0 to 1");
            return fail("cistron.mamba3.rope_fraction", problem);
        }
        if !(own.a_floor >= 0.0 && own.a_floor.is_finite()) {
            let problem = format!("{}: expected 0 or more", own.a_floor);
            return fail("cistron.mamba3.a_floor", problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    const TWO_STAGES: &str = r#"{"arch_layout": ["b1", ["R1"], "m1"], "d_model": [64, 96],
        "d_intermediate": [0, 128], "vocab_size": 8, "ssm_cfg": {"d_state": 16, "headdim": 32},
        "cistron": {"mamba3": {"rank": [4, 2], "a_activation": "heavy_tail", "a_floor": 0.001}}}"#;

    #[test]
    fn sizes_follow_from_the_configuration() {
        let config = parse(TWO_STAGES).expect("valid");
        let siso = Mamba3Shape::of(&config, 0, false);
        assert_eq!((siso.rank, siso.halves, siso.angles), (1, false, 4));
        let mimo = Mamba3Shape::of(&config, 1, true);
        assert_eq!((mimo.rank, mimo.halves, mimo.heads), (2, true, 6));
        assert_eq!(mimo.widths(), [192, 192, 32, 32, 6, 6, 6, 4]);
        assert_eq!(mimo.activation, DecayActivation::HeavyTail);
        let text = serde_json::to_string(&config).expect("json");
        assert_eq!(config, parse(&text).expect("round trip"));
    }

    /// What a block does depends on its details, so that models with one always record them.
    #[test]
    fn details_are_recorded_where_the_layout_has_such_blocks() {
        let start = TWO_STAGES.find(",\n        \"cistron\"").expect("there");
        let config = parse(&format!("{}}}", &TWO_STAGES[..start])).expect("valid");
        assert_eq!(config.cistron.mamba3, Some(Mamba3Config::default()));
        let without = parse(
            r#"{"arch_layout": ["m1"], "d_model": [64], "d_intermediate": [0], "vocab_size": 8}"#,
        )
        .expect("valid");
        assert_eq!(without.cistron.mamba3, None);
    }

    #[test]
    fn errors_name_the_key() {
        for (from, to, part) in [
            ("[4, 2]", "[4]", "cistron.mamba3.rank: 1 values"),
            ("[4, 2]", "[4, 9]", "9: expected 1 to 8"),
            ("0.001", "-1", "cistron.mamba3.a_floor"),
            ("\"a_floor\": 0.001", "\"rope_fraction\": 1.5", "0 to 1"),
            ("heavy_tail", "relu", "relu"),
            ("\"d_state\": 16", "\"d_state\": 15", "even number"),
            ("\"a_floor\"", "\"floor\"", "floor"),
        ] {
            let error = parse(&TWO_STAGES.replace(from, to)).expect_err(to);
            assert!(error.to_string().contains(part), "{to}: {error}");
        }
    }
}
