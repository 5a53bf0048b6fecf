//! One module a command.

mod bench;
mod completions;
mod corpus;
mod dms;
mod doctor;
mod eval;
mod gather;
mod generate;
mod genes;
mod head;
mod model;
mod pretrain;
mod saturate;
mod score;
mod selftest;
mod tracks;
mod vcf;

use clap::Subcommand;

use crate::global::Global;

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pack genomes into a training corpus, and look into one
    #[command(subcommand)]
    Corpus(corpus::CorpusCommand),
    /// Train a model on a corpus
    Pretrain(pretrain::Pretrain),
    /// Evaluate a model
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    /// Score variants with a model
    #[command(subcommand)]
    Score(score::ScoreCommand),
    /// Join the parts of an output that was made in parts
    Gather(gather::Gather),
    /// Write chunk boundaries and information as genome-browser tracks
    Tracks(tracks::Tracks),
    /// Learn fitness and other labels from a table
    #[command(subcommand)]
    Head(head::HeadCommand),
    /// Continue sequences with a model
    Generate(generate::Generate),
    /// Look into models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Measure speed and memory beside what the machine can do
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Check the model code against golden vectors of the reference implementation
    Selftest(selftest::Selftest),
    /// Say what this machine and build have, and what to do about each problem
    Doctor(doctor::Doctor),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Write the manual pages of all commands
    Man(completions::Man),
}

/// Runs a command.
pub fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Corpus(command) => corpus::run(global, command),
        Command::Pretrain(command) => pretrain::run(global, command),
        Command::Eval(command) => eval::run(global, command),
        Command::Score(command) => score::run(global, command),
        Command::Gather(command) => gather::run(global, &command),
        Command::Tracks(command) => tracks::run(global, command),
        Command::Head(command) => head::run(global, command),
        Command::Generate(command) => generate::run(global, command),
        Command::Model(command) => model::run(global, command),
        Command::Bench(command) => bench::run(global, command),
        Command::Selftest(command) => selftest::run(global, command),
        Command::Doctor(command) => doctor::run(global, command),
        Command::Completions(command) => completions::print(&command),
        Command::Man(command) => completions::write_pages(&command),
    }
}

/// The command line as typed, for provenance.
pub fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}
