//! What a run would be, before it is one.

use std::fmt;

use cistron_genome::corpus::Corpus;
use cistron_model::inspect::{self, StageCount};
use serde::Serialize;

use crate::TrainError;
use crate::config::RunConfig;
use crate::flops;
use crate::loader::Loader;
use crate::pretrain::PretrainOptions;
use crate::report::rounded;

/// A resolved configuration and what it amounts to.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The resolved configuration.
    pub config: RunConfig,
    /// Parameters of each stage.
    pub stages: Vec<StageCount>,
    /// Parameters of the model.
    pub parameters: u64,
    /// Tokens of one optimizer step.
    pub tokens_per_step: u64,
    /// Tokens of the whole run, when its steps are not cut short by the clock.
    pub tokens: u64,
    /// Bases of the training genomes.
    pub train_bases: u64,
    /// Floating-point operations for one token, forwards and backwards.
    pub flops_per_token: f64,
    /// Bytes of weights, gradients, moments and average.
    pub state_bytes: u64,
}

/// Resolves the configuration and sizes the run; nothing is written.
///
/// # Errors
///
/// The configuration or the corpus cannot be used.
pub fn plan(options: &PretrainOptions) -> Result<Plan, TrainError> {
    let config = RunConfig::load(&options.config, &options.sets)?.on(options.device);
    let corpus = Corpus::open(&options.corpus)?;
    let alphabet = config.model.alphabet();
    let loader = Loader::new(
        &corpus,
        &config.data,
        alphabet,
        config.train.seed,
        options.device,
    )?
    .with_chunks_of(&config.model)?;
    let stages = inspect::stages(&config.model);
    let parameters: u64 = stages.iter().map(|stage| stage.parameters as u64).sum();
    let copies = if config.train.ema_decay > 0.0 { 5 } else { 4 };
    let length = config.data.length;
    Ok(Plan {
        stages,
        parameters,
        tokens_per_step: config.tokens_per_step(),
        tokens: config.tokens_per_step() * config.schedule.steps,
        train_bases: loader.train_bases(),
        flops_per_token: 3.0 * flops::forward(&config.model, length) / length as f64,
        state_bytes: 4 * copies * parameters,
        config,
    })
}

impl Plan {
    /// What the run amounts to, a line each.
    fn summary(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.stages.iter().map(stage_line).collect();
        let schedule = &self.config.schedule;
        lines.push(format!("parameters: {}", self.parameters));
        lines.push(format!(
            "tokens: {} a step, {} in {} steps, {:.2} times the {} training bases",
            self.tokens_per_step,
            rounded(self.tokens as f64),
            schedule.steps,
            self.tokens as f64 / self.train_bases.max(1) as f64,
            rounded(self.train_bases as f64)
        ));
        if schedule.max_minutes > 0.0 {
            lines.push(format!("time: at most {} minutes", schedule.max_minutes));
        }
        lines.push(format!(
            "operations: {} a token, {} in all",
            rounded(self.flops_per_token),
            rounded(self.flops_per_token * self.tokens as f64)
        ));
        lines.push(format!(
            "memory: {:.1} MiB for weights, gradients and optimizer; activations come on top",
            self.state_bytes as f64 / f64::from(1 << 20)
        ));
        lines
    }
}

fn stage_line(stage: &StageCount) -> String {
    let ratio = stage
        .ratio
        .map_or(String::new(), |n| format!("  1 chunk in {n} tokens"));
    format!(
        "stage {}: {:<16} width {:<5} {:>8} parameters  rate x{}{ratio}",
        stage.stage,
        stage.layout.join(" "),
        stage.d_model,
        rounded(stage.parameters as f64),
        stage.lr_multiplier
    )
}

/// The resolved configuration as TOML, and a summary as comments under it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.config.resolved())?;
        let summary: Vec<String> = self
            .summary()
            .iter()
            .map(|line| format!("# {line}"))
            .collect();
        write!(f, "{}", summary.join("\n"))
    }
}
