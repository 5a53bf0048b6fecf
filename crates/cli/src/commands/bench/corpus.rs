//! `cistron bench corpus`.

use std::path::PathBuf;
use std::time::Duration;

use cistron_bench::CorpusOptions;
use cistron_genome::alphabet::Alphabet;
use cistron_genome::corpus::Corpus;
use cistron_train::config::DataConfig;
use clap::Args;
use serde_json::json;

use super::short;
use crate::commands::command_line;
use crate::global::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench corpus corpus
  cistron bench corpus --length 8192 --batch 32 --ahead 0,1,8 --json loader.json corpus")]
pub struct CorpusBench {
    /// Corpus folder
    dir: PathBuf,
    /// Tokens of a row
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(2..))]
    length: u64,
    /// Rows of a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Batches under way at once, each on a thread; one measurement a number [default: 0, 1 and --threads]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    ahead: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace an existing FILE
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: &CorpusBench) -> anyhow::Result<()> {
    if let Some(path) = &command.json {
        output::claim_file(path, command.force)?;
    }
    let device = global.device()?;
    let corpus = Corpus::open(&command.dir)?;
    let ahead = match command.ahead.as_slice() {
        [] => vec![0, 1, global.threads()],
        ahead => ahead.to_vec(),
    };
    let options = CorpusOptions {
        data: DataConfig {
            length: command.length,
            batch: command.batch,
            ..DataConfig::default()
        },
        alphabet: Alphabet::Dna,
        ahead,
        time: Duration::from_secs(command.seconds),
    };
    output::print("batches ahead\tbatches\tbases\tbases/s\n")?;
    let mut failed = None;
    let results = cistron_bench::corpus(&corpus, &options, device, &mut |r| {
        let line = format!(
            "{}\t{}\t{}\t{}\n",
            r.ahead,
            r.batches,
            r.bases,
            short(r.bases_per_second)
        );
        failed = failed.take().or(output::print(&line).err());
    })?;
    failed.map_or(Ok(()), Err)?;
    if let Some(path) = &command.json {
        let report = json!({
            "measured": "corpus",
            "tool_version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
            "device": format!("{device:?}"),
            "length": command.length,
            "batch": command.batch,
            "results": results,
        });
        super::write(path, &serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}
