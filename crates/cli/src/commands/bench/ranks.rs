//! `cistron bench ranks`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use cistron_bench::{Clock, RanksOptions, RanksResult, Scaling, Schedule};
use cistron_model::{Checkpointing, Compute};
use cistron_train::collective::{self, Seat};
use cistron_train::launch::{Ended, launch};
use clap::Args;
use serde_json::json;

use super::{Common, Shape, checkpointing, gpu, memory, short, write};
use crate::commands::command_line;
use crate::failure::Signalled;
use crate::global::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench ranks --devices 1,2,4 --preset 54m --batch 16 --length 8192 \\
      --selection 0.316,0.789 --json ranks.json
  mpirun -n 2 cistron bench ranks --device cpu --preset tiny --batch 4 --length 512")]
pub struct Ranks {
    /// Numbers of GPUs to train on, one measurement a number; efficiencies are against 1
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u64).range(1..))]
    devices: Vec<u64>,
    #[command(flatten)]
    shape: Shape,
    /// Sequences of a batch on one GPU alone
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,
    /// Tokens of each
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(i64).range(2..))]
    length: i64,
    /// Fix the share of tokens that start a chunk in each stage, evenly spread, whatever the
    /// router says: all ranks have as much work then
    #[arg(long, value_name = "F,...", value_delimiter = ',')]
    selection: Vec<f64>,
    /// Stages whose layers run again in the backward pass: none, all, or numbers
    #[arg(long, value_name = "none|all|N,...", default_value = "none", value_parser = checkpointing)]
    checkpointing: Checkpointing,
    /// Also write a profile of three steps on the most GPUs, in Chrome's format, and say how
    /// long the GPU of rank 0 was busy and how much of the exchange ran beside other work
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Where rank 0 leaves its figures for the process that started it
    #[arg(long, value_name = "FILE", hide = true)]
    result: Option<PathBuf>,
}

const HEAD: &str =
    "ranks\tscaling\tsharded\texchange\tbatch\tms a step\ttokens/s\tefficiency\tpeak memory\n";

pub fn run(global: &Global, command: &Ranks) -> anyhow::Result<()> {
    let seat = Seat::from_environment()?;
    if let Some(path) = &command.result {
        let (result, rank) = measure(global, command, seat.as_ref())?;
        if rank == 0 {
            write(path, &serde_json::to_string(&result)?)?;
        }
        return Ok(());
    }
    for path in command.common.json.iter().chain(&command.trace) {
        output::claim_file(path, command.common.force)?;
    }
    let results = if seat.is_some() {
        let (result, rank) = measure(global, command, seat.as_ref())?;
        if rank > 0 {
            return Ok(());
        }
        output::print(HEAD)?;
        show(&result)?;
        vec![result]
    } else {
        output::print(HEAD)?;
        start_each(command)?
    };
    let Some(path) = &command.common.json else {
        return Ok(());
    };
    let report = json!({
        "measured": "ranks",
        "tool_version": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "gpu": gpu(),
        "libtorch": cistron_kernels::runtime::torch_version(),
        "repeat": command.common.repeat,
        "length": command.length,
        "model": command.shape.config()?,
        "results": results,
    });
    write(path, &serde_json::to_string_pretty(&report)?)
}

/// This process as one rank, or alone.
fn measure(
    global: &Global,
    command: &Ranks,
    seat: Option<&Seat>,
) -> anyhow::Result<(RanksResult, u64)> {
    let device = global.device()?;
    let device = seat.map_or(Ok(device), |seat| seat.device(device))?;
    let group = collective::join(seat, device)?;
    // Of the numbers of GPUs that are asked for, the most; alone or under a launcher, always.
    let traced = command.result.is_none() || command.devices.iter().max() == Some(&group.world());
    let options = RanksOptions {
        compute: Compute {
            checkpointing: command.checkpointing.clone(),
            selection: command.selection.clone(),
            ..Compute::new(command.common.precision.on(device))
        },
        config: command.shape.config()?,
        batch: command.batch,
        length: command.length,
        trace: command.trace.clone().filter(|_| traced),
    };
    let clock = Clock {
        device,
        repeat: command.common.repeat as usize,
        warmup: command.common.warmup as usize,
    };
    let result = cistron_bench::ranks(&options, &group, &clock)?;
    group.finish()?;
    Ok((result, group.rank()))
}

/// Starts the ranks of each number of GPUs after each other, as this command again.
fn start_each(command: &Ranks) -> anyhow::Result<Vec<RanksResult>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("result.json");
    let mut results: Vec<RanksResult> = Vec::new();
    for &ranks in &command.devices {
        let own = std::env::current_exe().context("the path of this program")?;
        let again = || -> Command {
            let mut again = Command::new(&own);
            again.args(std::env::args_os().skip(1));
            again.arg("--result").arg(&path);
            again
        };
        match launch(ranks, &again)? {
            Ended::Done => {}
            Ended::Signal(signal) => return Err(Signalled(signal).into()),
        }
        let mut result = read(&path)?;
        if let Some(one) = results.iter().find(|result| result.ranks == 1) {
            result.compare(one);
        } else if result.ranks == 1 {
            result.compare(&result.clone());
        }
        show(&result)?;
        results.push(result);
    }
    Ok(results)
}

fn read(path: &Path) -> anyhow::Result<RanksResult> {
    let text = std::fs::read_to_string(path).context("rank 0 has left no figures")?;
    let result = serde_json::from_str(&text)?;
    std::fs::remove_file(path)?;
    Ok(result)
}

fn show(result: &RanksResult) -> anyhow::Result<()> {
    let mut text = String::new();
    for r in &result.cases {
        let most = r
            .peak_bytes
            .iter()
            .max()
            .copied()
            .filter(|bytes| *bytes > 0);
        text += &format!(
            "{}\t{}\t{}\t{}\t{}\t{:.2}\t{}\t{}\t{}\n",
            result.ranks,
            match r.case.scaling {
                Scaling::Weak => "weak",
                Scaling::Strong => "strong",
            },
            if r.case.zero { "yes" } else { "no" },
            match r.case.exchange {
                _ if result.ranks == 1 => "-",
                Schedule::Overlapped => "overlapped",
                Schedule::After => "after",
                Schedule::None => "none",
            },
            r.batch,
            1e3 * r.seconds.median,
            short(r.tokens_per_second),
            r.efficiency
                .map_or_else(|| "-".into(), |share| format!("{:.1} %", 100.0 * share)),
            memory(most),
        );
    }
    if let Some(sum) = &result.all_reduce {
        let exposed = |schedule| {
            let seconds = result.exposed(schedule).unwrap_or(0.0);
            format!("{:.2} ms", 1e3 * seconds)
        };
        text += &format!(
            "# {} ranks: all gradients, {}, are summed in {:.2} ms, {} bytes a second on the bus; \
             a step waits {} for it when overlapped, {} when not\n",
            result.ranks,
            short(sum.bytes as f64),
            1e3 * sum.seconds.median,
            short(sum.bus_bytes_per_second),
            exposed(Schedule::Overlapped),
            exposed(Schedule::After),
        );
    }
    if let Some(busy) = &result.busy {
        text += &format!(
            "# {} ranks: the GPU of rank 0 worked for {:.1} % of {:.1} ms",
            result.ranks,
            100.0 * busy.busy_seconds / busy.seconds,
            1e3 * busy.seconds,
        );
        if busy.exchange_seconds > 0.0 {
            text += &format!(
                "; of {:.2} ms of exchange {:.1} % ran beside other work",
                1e3 * busy.exchange_seconds,
                100.0 * busy.hidden_seconds / busy.exchange_seconds,
            );
        }
        text.push('\n');
    }
    output::print(&text)
}
