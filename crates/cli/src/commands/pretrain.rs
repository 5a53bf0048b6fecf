//! `cistron pretrain`.

use std::path::PathBuf;
use std::str::FromStr;

use cistron_train::{Outcome, PretrainOptions, Resume};
use clap::Args;

use crate::commands::command_line;
use crate::failure::Signalled;
use crate::global::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron pretrain --config configs/demo.toml --corpus corpus --out run
  cistron pretrain --config configs/demo.toml --corpus corpus --out run --resume auto
  cistron pretrain --config configs/demo.toml --corpus corpus --out run2 \\
      --set optimizer.lr=2e-3 --set schedule.steps=4000
  cistron pretrain --config configs/demo.toml --corpus corpus --out run --dry-run

The run folder holds config.toml (resolved), metrics.jsonl, TensorBoard events, plots/,
checkpoints/ and, at the end, model/. Ctrl-C and SIGTERM write a checkpoint first.")]
pub struct Pretrain {
    /// Configuration of the run
    #[arg(long, short, value_name = "FILE.toml")]
    config: PathBuf,
    /// Corpus to train on (see `cistron corpus build`)
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
    /// Run folder
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Override a key of the configuration, as in optimizer.lr=1e-3; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Continue earlier training: auto (the latest checkpoint of --out, if any), never, or a checkpoint folder
    #[arg(long, default_value = "never", value_name = "auto|never|PATH")]
    resume: String,
    /// Take at most this many steps now, then write a checkpoint and stop
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Print the resolved configuration and what the run amounts to, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing run folder
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: Pretrain) -> anyhow::Result<()> {
    let options = PretrainOptions {
        config: command.config,
        sets: command.sets,
        corpus: command.corpus,
        out: command.out,
        resume: Resume::from_str(&command.resume)?,
        force: command.force,
        device: global.device()?,
        quiet: !global.shows_bar(),
        command: command_line(),
        stop_after: command.stop_after,
    };
    if command.dry_run {
        return output::print(&format!("{}\n", cistron_train::plan(&options)?));
    }
    match cistron_train::pretrain(&options)? {
        Outcome::Finished { .. } | Outcome::Paused { .. } => Ok(()),
        Outcome::Interrupted { signal, .. } => Err(Signalled(signal).into()),
    }
}
