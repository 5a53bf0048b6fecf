//! What a configuration amounts to: parameters by stage and by part.

use serde::Serialize;

use crate::config::Config;
use crate::params::specs;

/// Parameters of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageCount {
    /// Stage, outermost 0.
    pub stage: usize,
    /// Layout strings: encoder and decoder, or the main network alone.
    pub layout: Vec<String>,
    /// Width.
    pub d_model: i64,
    /// Number of parameters.
    pub parameters: i64,
    /// Target N of the router, where there is one.
    pub ratio: Option<f64>,
    /// Learning-rate multiplier.
    pub lr_multiplier: f64,
}

/// Parameter counts of every stage; embeddings and output layer belong to stage 0.
pub fn stages(config: &Config) -> Vec<StageCount> {
    let specs = specs(config);
    let count = |stage: usize, stacks: &Vec<&crate::arch::Stack>| StageCount {
        stage,
        layout: stacks.iter().map(ToString::to_string).collect(),
        d_model: config.d_model[stage],
        parameters: specs
            .iter()
            .filter(|spec| spec.stage == stage)
            .map(|spec| spec.shape.iter().product::<i64>())
            .sum(),
        ratio: config.ratio(stage),
        lr_multiplier: config.lr_multiplier(stage),
    };
    config
        .arch_layout
        .stacks()
        .iter()
        .enumerate()
        .map(|(i, stacks)| count(i, stacks))
        .collect()
}
