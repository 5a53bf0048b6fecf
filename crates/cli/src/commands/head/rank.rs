//! `cistron head rank`.

use std::path::PathBuf;

use anyhow::bail;
use cistron_heads::folder::Head;
use cistron_heads::rank::{self, Options};
use clap::Args;

use super::epistasis::target;
use super::input::wild_type;
use super::positions;
use crate::commands::saturate::Table as Output;
use crate::failure::Usage;
use crate::global::Global;
use crate::output;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron head rank --head tem1 --doubles 0 -o singles.tsv
  cistron head rank --head gfp --doubles 100 --top 500 --caution 1

Columns: rank, mutant, number of substitutions, prediction, its standard deviation over the head's
networks, change against the wild type, the bound that is ranked by (prediction less --caution
deviations), and for doubles what they do beyond the sum of both. Train with --ensemble for a
deviation.")]
pub struct Rank {
    /// Folder of the head
    #[arg(long, value_name = "DIR")]
    head: PathBuf,
    /// Another wild type: letters, or a FASTA file [default: that of the head]
    #[arg(long, value_name = "LETTERS|FASTA")]
    wild_type: Option<String>,
    /// Which of the head's targets or classes [default: the first target, the last class]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Positions, in the wild type's numbers, such as 39,40,50-54 [default: all that the head reads]
    #[arg(long, value_name = "N,...")]
    positions: Option<String>,
    /// Predict also the pairs of so many best single mutants
    #[arg(long, value_name = "N", default_value = "50")]
    doubles: usize,
    /// Deviations over networks that count against a mutant
    #[arg(long, value_name = "X", default_value = "0")]
    caution: f64,
    /// Write so many best ones [default: all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Ranking; - for standard output
    #[arg(long, short, value_name = "OUT.tsv[.gz]", default_value = "-")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

/// Ranks.
pub fn run(global: &Global, command: &Rank) -> anyhow::Result<()> {
    if !(command.caution.is_finite() && command.caution >= 0.0) {
        let text = format!("--caution {}: expected 0 or more", command.caution);
        return Err(Usage(text).into());
    }
    let device = global.device()?;
    let head = Head::load(&command.head, device)?;
    let description = &head.description;
    let given = command.wild_type.as_deref().map(wild_type).transpose()?;
    let wild = match &given {
        None => head.wild_type()?,
        Some(text) => match description.alphabet.encode_all(text.as_bytes()) {
            Ok(letters) => letters,
            Err((place, letter)) => bail!("--wild-type: '{letter}' as letter {place} is unknown"),
        },
    };
    if command.output.as_os_str() != "-" {
        output::claim_file(&command.output, command.force)?;
    }
    let wanted = command.positions.as_deref();
    let wanted = wanted
        .map(|text| positions(text, description.first, wild.len()))
        .transpose()?;
    let options = Options {
        positions: wanted.unwrap_or_default(),
        best: command.doubles,
        target: target(&head, command.target.as_deref())?,
        caution: command.caution,
    };
    if head.networks() == 1 {
        tracing::warn!(
            "the head is one network, whose deviation is not known; train it with --ensemble 5"
        );
    }
    let ranked = rank::rank(&head, &wild, &options, device, global.threads() > 1)?;
    let mut table = Output::create(&command.output)?;
    table
        .write(b"rank\tmutant\tsubstitutions\tpredicted\tdeviation\tchange\tbound\tepistasis\n")?;
    let one = head.networks() == 1;
    for (i, entry) in ranked
        .iter()
        .enumerate()
        .take(command.top.unwrap_or(usize::MAX))
    {
        let deviation = match one {
            true => "NA".into(),
            false => format!("{:.6}", entry.deviation),
        };
        let epistasis = entry
            .epistasis
            .map_or("NA".into(), |value| format!("{value:.6}"));
        let line = format!(
            "{}\t{}\t{}\t{:.6}\t{deviation}\t{:.6}\t{:.6}\t{epistasis}\n",
            i + 1,
            entry.name,
            entry.order,
            entry.predicted,
            entry.change,
            entry.bound
        );
        table.write(line.as_bytes())?;
    }
    table.finish()?;
    tracing::info!(
        "{} mutants ranked by {} networks",
        ranked.len(),
        head.networks()
    );
    Ok(())
}
