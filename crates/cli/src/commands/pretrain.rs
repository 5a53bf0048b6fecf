//! `cistron pretrain`.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use anyhow::Context;
use cistron_kernels::runtime;
use cistron_train::collective::Seat;
use cistron_train::launch::{Ended, launch};
use cistron_train::{Outcome, PretrainOptions, Resume, RunConfig};
use clap::Args;

use crate::commands::command_line;
use crate::failure::{Signalled, Usage};
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
  cistron pretrain --config configs/demo.toml --corpus corpus --out run --devices 4

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
    /// Train on this many GPUs of this machine, one process each; see also torchrun and mpirun
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    devices: u64,
    /// Print the resolved configuration and what the run amounts to, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing run folder
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: Pretrain) -> anyhow::Result<()> {
    let seat = Seat::from_environment()?;
    let device = global.device()?;
    if let Some(seat) = seat.as_ref().filter(|_| global.threads.is_none()) {
        // Ranks of one host share its cores.
        let share = global.threads() as u64 / seat.local_world;
        tch::set_num_threads(share.max(1) as i32);
    }
    let options = PretrainOptions {
        config: command.config,
        sets: command.sets,
        corpus: command.corpus,
        out: command.out,
        resume: Resume::from_str(&command.resume)?,
        force: command.force,
        device,
        quiet: !global.shows_bar(),
        command: command_line(),
        stop_after: command.stop_after,
    };
    if command.dry_run {
        return output::print(&format!("{}\n", cistron_train::plan(&options)?));
    }
    if command.devices > 1 && seat.is_none() {
        return on_devices(global, &options, command.devices);
    }
    match cistron_train::pretrain(&options)? {
        Outcome::Finished { .. } | Outcome::Paused { .. } => Ok(()),
        Outcome::Interrupted { signal, .. } => Err(Signalled(signal).into()),
    }
}

/// Starts a rank on each of the first `devices` GPUs, as this command again.
fn on_devices(global: &Global, options: &PretrainOptions, devices: u64) -> anyhow::Result<()> {
    if global.device.starts_with("cuda:") {
        return Err(Usage(format!(
            "--devices {devices} takes the first GPUs: leave --device out, and choose others with \
             CUDA_VISIBLE_DEVICES"
        ))
        .into());
    }
    let gpus = match options.device.is_cuda() {
        true => u64::try_from(runtime::cuda_devices()).unwrap_or(0),
        false => 0,
    };
    if devices > gpus {
        anyhow::bail!(
            "--devices {devices}: this machine has {gpus} usable GPU(s); ranks on CPUs are started \
             with mpirun -n {devices} cistron pretrain"
        );
    }
    // What is wrong is said once, before there are ranks.
    RunConfig::load(&options.config, &options.sets)?.among(devices)?;
    cistron_train::plan(options)?;
    let own = std::env::current_exe().context("the path of this program")?;
    let again = || -> Command {
        let mut again = Command::new(&own);
        again.args(std::env::args_os().skip(1));
        again
    };
    match launch(devices, &again)? {
        Ended::Done => Ok(()),
        Ended::Signal(signal) => Err(Signalled(signal).into()),
    }
}
