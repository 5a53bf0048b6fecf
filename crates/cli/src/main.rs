//! The `cistron` command: arguments to one call into a crate.

mod commands;
mod failure;
mod global;
mod models;
mod output;
mod progress;
mod stop;
mod table;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use global::Global;

/// A genome language model workbench for prokaryotes: train hierarchical models on
/// genomes, score variants, and see what they learned in a genome browser.
#[derive(Debug, Parser)]
#[command(name = "cistron", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cistron corpus build --out corpus --val Held_out genomes/*.fna.gz
  cistron pretrain --config configs/demo.toml --corpus corpus --out run
  cistron eval lm --model run/model held_out.fna.gz
  cistron score vcf --fasta ref.fna.gz --model run/model in.vcf.gz -o out.vcf.gz
  cistron tracks --fasta ref.fna.gz --model run/model -o tracks

Data goes to standard output, messages to standard error. Exit status: 0 done, 1 bad
data or failure, 2 wrong usage, 130 or 143 stopped by Ctrl-C or SIGTERM.";

fn main() -> ExitCode {
    let cli = Cli::parse();
    cistron_kernels::runtime::keep_memory();
    cli.global.start_logging();
    let result = commands::run(&cli.global, cli.command);
    failure::exit_code(result, &cli.global)
}
