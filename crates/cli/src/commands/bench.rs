//! `cistron bench`.

mod corpus;
mod ranks;
mod scaling;

use std::path::{Path, PathBuf};

use anyhow::Context;
use cistron_bench::{Ceiling, Clock, DecodeOptions, InferOptions, OpShape, TrainOptions};
use cistron_model::{Checkpointing, Compute, Config, Every};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::commands::command_line;
use crate::global::Global;
use crate::models::PrecisionArg;
use crate::output;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Forward and backward passes on random nucleotides, without the optimizer
    Train(Train),
    /// Scores of every token of random sequences
    Infer(Infer),
    /// One token of every sequence at a time
    Decode(Decode),
    /// Single operators beside the bytes that they must move
    Kernels(Kernels),
    /// Whole training steps on several ranks, and what their exchange costs
    Ranks(ranks::Ranks),
    /// Batches from a corpus, without training
    Corpus(corpus::CorpusBench),
    /// A ladder of training runs, and how the loss falls with compute
    Scaling(scaling::Scaling),
}

#[derive(Debug, Args)]
struct Common {
    /// Numbers in which the model computes
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionArg,
    /// Runs that are counted; the median is reported
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Runs before them that are not
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: u32,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace an existing FILE
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Shape {
    /// Model, by name
    #[arg(
        long,
        value_name = "NAME",
        default_value = "54m",
        conflicts_with = "config",
        value_parser = PossibleValuesParser::new(cistron_bench::PRESETS)
    )]
    preset: String,
    /// Model: a config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Shape {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::read(path)?,
            None => cistron_bench::preset(&self.preset)?,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench train --preset 54m --batch 16 --length 8192 --selection 0.316,0.789
  cistron bench train --config config.json --checkpointing 0,1 --json train.json")]
pub struct Train {
    #[command(flatten)]
    shape: Shape,
    /// Sequences in a batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,
    /// Tokens of each
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(i64).range(2..))]
    length: i64,
    /// Fix the share of tokens that start a chunk in each stage, evenly spread, whatever the
    /// router says: a model with random weights cuts at about half
    #[arg(long, value_name = "F,...", value_delimiter = ',')]
    selection: Vec<f64>,
    /// Stages whose layers run again in the backward pass: none, all, or numbers
    #[arg(long, value_name = "none|all|N,...", default_value = "none", value_parser = checkpointing)]
    checkpointing: Checkpointing,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench infer --preset 215m --length 8192,65536,262144,1048576 --selection 0.34,0.25
  cistron bench infer --preset 215m --length 1048576 --piece 131072")]
pub struct Infer {
    #[command(flatten)]
    shape: Shape,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,
    /// Tokens of each, one measurement a number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8192", value_parser = clap::value_parser!(i64).range(1..))]
    length: Vec<i64>,
    /// Read in pieces of this many tokens, with carried states
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    piece: Option<i64>,
    /// Fix the share of tokens that start a chunk in each stage, evenly spread, whatever the
    /// router says: a model with random weights cuts at about half
    #[arg(long, value_name = "F,...", value_delimiter = ',')]
    selection: Vec<f64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cistron bench decode --preset 215m --batch 1,2,4,8,16,32,64,128 --prompt 1024")]
pub struct Decode {
    #[command(flatten)]
    shape: Shape,
    /// Sequences at once, one measurement a number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,64", value_parser = clap::value_parser!(i64).range(1..))]
    batch: Vec<i64>,
    /// Tokens that each sequence has had before
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..))]
    prompt: i64,
    /// Steps of a run
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..))]
    steps: i64,
    /// Launch every operator instead of replaying a CUDA graph
    #[arg(long)]
    no_graph: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench kernels --batch 16 --length 8192 --heads 8
  cistron bench kernels --op conv,attention --length 131072 --batch 1 --heads 16 --window 1023")]
pub struct Kernels {
    /// Operators to measure, by name [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    op: Vec<String>,
    /// Sequences
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,
    /// Tokens of each
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(i64).range(1..))]
    length: i64,
    /// Heads
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..))]
    heads: i64,
    /// Channels a head
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..))]
    head_dim: i64,
    /// State size
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(i64).range(1..))]
    state: i64,
    /// Tokens before each one that attention sees; -1 for all
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    window: i64,
    #[command(flatten)]
    common: Common,
}

fn checkpointing(text: &str) -> Result<Checkpointing, String> {
    match text {
        "none" => Ok(Checkpointing::Every(Every::None)),
        "all" => Ok(Checkpointing::Every(Every::All)),
        list => list
            .split(',')
            .map(|stage| stage.trim().parse())
            .collect::<Result<_, _>>()
            .map(Checkpointing::Stages)
            .map_err(|_| "expected none, all, or stages such as 0,1".into()),
    }
}

/// A measurement under way: the device with its ceilings.
struct Bench<'a> {
    common: &'a Common,
    clock: Clock,
    compute: Compute,
    ceiling: Ceiling,
}

impl<'a> Bench<'a> {
    fn start(global: &Global, common: &'a Common) -> anyhow::Result<Self> {
        if let Some(path) = &common.json {
            output::claim_file(path, common.force)?;
        }
        let device = global.device()?;
        let compute = Compute::new(common.precision.on(device));
        let clock = Clock {
            device,
            repeat: common.repeat as usize,
            warmup: common.warmup as usize,
        };
        let ceiling = Ceiling::measure(&clock, compute.precision);
        output::print(&format!(
            "device\t{device:?}, {}\ncopy ceiling\t{} bytes a second\nmatrix ceiling\t{} operations a second\n",
            compute.precision.name(),
            short(ceiling.copy_bytes_per_second),
            short(ceiling.matrix_flops_per_second)
        ))?;
        Ok(Self {
            common,
            clock,
            compute,
            ceiling,
        })
    }

    fn finish(&self, what: &str, model: Option<&Config>, results: Value) -> anyhow::Result<()> {
        let Some(path) = &self.common.json else {
            return Ok(());
        };
        let report = json!({
            "measured": what,
            "tool_version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
            "device": format!("{:?}", self.clock.device),
            "gpu": gpu(),
            "libtorch": cistron_kernels::runtime::torch_version(),
            "precision": self.compute.precision.name(),
            "repeat": self.clock.repeat,
            "ceiling": self.ceiling,
            "model": model,
            "results": results,
        });
        let text = serde_json::to_string_pretty(&report)?;
        write(path, &text)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, format!("{text}\n"))
        .with_context(|| format!("{}: cannot be written; check the folder", path.display()))
}

/// Name of the first GPU, as the driver tells it.
fn gpu() -> Option<String> {
    let folder = std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?;
    let text = folder
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("information")).ok())
        .next()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(line.trim().to_owned())
}

/// Three digits and a unit.
fn short(value: f64) -> String {
    let (scale, unit) = match value {
        v if v >= 1e12 => (1e12, "T"),
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let scaled = value / scale;
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.decimals$}{unit}")
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| short(bytes as f64))
}

fn shares(selection: &[f64]) -> String {
    let shares: Vec<String> = selection
        .iter()
        .map(|share| format!("{share:.3}"))
        .collect();
    if shares.is_empty() {
        "-".into()
    } else {
        shares.join(" x ")
    }
}

pub fn run(global: &Global, command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Train(command) => train(global, &command),
        BenchCommand::Infer(command) => infer(global, &command),
        BenchCommand::Decode(command) => decode(global, &command),
        BenchCommand::Kernels(command) => kernels(global, &command),
        BenchCommand::Ranks(command) => ranks::run(global, &command),
        BenchCommand::Corpus(command) => corpus::run(global, &command),
        BenchCommand::Scaling(command) => scaling::run(global, &command),
    }
}

fn train(global: &Global, command: &Train) -> anyhow::Result<()> {
    let config = command.shape.config()?;
    let bench = Bench::start(global, &command.common)?;
    let options = TrainOptions {
        compute: Compute {
            checkpointing: command.checkpointing.clone(),
            selection: command.selection.clone(),
            ..bench.compute.clone()
        },
        config,
        batch: command.batch,
        length: command.length,
    };
    let result = cistron_bench::train(&options, &bench.clock)?;
    output::print(&format!(
        "parameters\t{}\nbatch\t{} x {}\nselection\t{}\nforward and backward\t{:.2} ms, {} tokens a second\n\
         forward\t{:.2} ms\noperations\t{} a second, {:.1} % of the matrix ceiling\npeak memory\t{}\nloss\t{:.4} nats a base\n",
        result.parameters,
        result.batch,
        result.length,
        shares(&result.selection),
        1e3 * result.seconds.median,
        short(result.tokens_per_second),
        1e3 * result.forward_seconds.median,
        short(result.flops_per_second),
        100.0 * result.flops_per_second / bench.ceiling.matrix_flops_per_second,
        memory(result.peak_bytes),
        result.loss,
    ))?;
    bench.finish("train", Some(&options.config), json!([result]))
}

fn infer(global: &Global, command: &Infer) -> anyhow::Result<()> {
    let config = command.shape.config()?;
    let bench = Bench::start(global, &command.common)?;
    let options = InferOptions {
        compute: Compute {
            selection: command.selection.clone(),
            ..bench.compute.clone()
        },
        config,
        batch: command.batch,
        lengths: command.length.clone(),
        piece: command.piece,
    };
    output::print("batch\tlength\tselection\tms\ttokens/s\toperations/s\tpeak memory\tfinite\n")?;
    let mut failed = None;
    let results = cistron_bench::infer(&options, &bench.clock, &mut |r| {
        let line = format!(
            "{}\t{}\t{}\t{:.2}\t{}\t{}\t{}\t{}\n",
            r.batch,
            r.length,
            shares(&r.selection),
            1e3 * r.seconds.median,
            short(r.tokens_per_second),
            short(r.flops_per_second),
            memory(r.peak_bytes),
            if r.finite { "yes" } else { "NO" },
        );
        failed = failed.take().or(output::print(&line).err());
    })?;
    failed.map_or(Ok(()), Err)?;
    bench.finish("infer", Some(&options.config), json!(results))
}

fn decode(global: &Global, command: &Decode) -> anyhow::Result<()> {
    let config = command.shape.config()?;
    let bench = Bench::start(global, &command.common)?;
    let options = DecodeOptions {
        compute: bench.compute.clone(),
        config,
        batches: command.batch.clone(),
        prompt: command.prompt,
        steps: command.steps,
        without_graph: command.no_graph,
    };
    output::print("batch\tms a step\ttokens/s\tstate bytes\tstate bytes/s\tbytes/s\tgraph\n")?;
    let mut failed = None;
    let results = cistron_bench::decode(&options, &bench.clock, &mut |r| {
        let line = format!(
            "{}\t{:.3}\t{}\t{}\t{}\t{}\t{}\n",
            r.batch,
            1e3 * r.seconds.median,
            short(r.tokens_per_second),
            short(r.state_bytes as f64),
            short(r.state_bytes_per_second),
            short(r.bytes_per_second),
            r.graph,
        );
        failed = failed.take().or(output::print(&line).err());
    })?;
    failed.map_or(Ok(()), Err)?;
    bench.finish("decode", Some(&options.config), json!(results))
}

fn kernels(global: &Global, command: &Kernels) -> anyhow::Result<()> {
    let bench = Bench::start(global, &command.common)?;
    let shape = OpShape {
        batch: command.batch,
        length: command.length,
        heads: command.heads,
        head_dim: command.head_dim,
        state: command.state,
        window: command.window,
    };
    output::print("operator\tforward ms\t% of copy\tboth ms\t% of copy\toperations/s\n")?;
    let mut failed = None;
    let results = cistron_bench::ops(
        &command.op,
        shape,
        bench.compute.precision,
        &bench.ceiling,
        &bench.clock,
        &mut |r| {
            let line = format!(
                "{}\t{:.4}\t{:.1}\t{:.4}\t{:.1}\t{}\n",
                r.op,
                1e3 * r.forward.median,
                100.0 * r.forward_of_ceiling,
                1e3 * r.both.median,
                100.0 * r.both_of_ceiling,
                r.forward_flops_per_second.map_or_else(|| "-".into(), short),
            );
            failed = failed.take().or(output::print(&line).err());
        },
    )?;
    failed.map_or(Ok(()), Err)?;
    bench.finish(
        "kernels",
        None,
        json!({"shape": shape, "operators": results}),
    )
}
