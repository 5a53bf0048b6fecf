//! `cistron score dms`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cistron_genome::code::GeneticCode;
use cistron_genome::compression::input_name;
use cistron_genome::fasta::Genome;
use cistron_score::Engine;
use cistron_score::difference::Frame;
use cistron_score::dms::{self, Placed};
use cistron_tables::{Cell, Kind};
use cistron_variant::dms::edits::{Choice, Edit};
use cistron_variant::dms::mutation::{self, Change};
use cistron_variant::dms::table::{Columns, Table};
use clap::{Args, ValueEnum};

use crate::commands::command_line;
use crate::commands::score::FrameArg;
use crate::global::Global;
use crate::models::ScorerArg;
use crate::progress::Progress;
use crate::table::{self, OutTable};

mod report;
mod wild;

use report::{Measured, Report};
use wild::Wild;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CodonArg {
    /// The codon with the fewest changes; of equals the one that the host uses most
    Nearest,
    /// The codon that the host uses most
    Frequent,
    /// All codons: the logarithm of the mean likelihood ratio
    Mean,
}

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score dms --cds blaTEM.fna --dms BLAT_ECOLX_Stiffler_2015.csv -o scores.tsv
  cistron score dms --fasta MG1655.fna.gz --region NC_000913.3:926228-926443:- --dms infA.csv --json
  cistron score dms --dms VIM2_Chen_2020.csv --codon mean
  cistron score dms --sequence-column x --score-column expression --dms promoter.tsv

The score of a variant is the log-likelihood of the gene with its changes less that without, in
nats, the mean of both strands: high means that the model finds it likely. Printed are Spearman's
correlation with what was measured (signed, with a bootstrap interval), AUROC, MCC, NDCG and recall of
the top tenth, for the score and for baselines that know nothing of the gene.

Changes are such as A42G, A42G:K50R, A42*, A42del, GCT42GGT, p.Ala42Gly or c.124G>A. Without --cds and
without --fasta the wild-type protein of the table is translated back with the codons that the host uses
most, and this is said.")]
pub struct Dms {
    /// Measured variants: CSV or TSV with a row of names, plain or gzip, such as ProteinGym's
    #[arg(long, value_name = "TABLE")]
    dms: PathBuf,
    /// Coding sequence of the wild type; of several the one that fits the table
    #[arg(long, value_name = "FASTA")]
    cds: Option<PathBuf>,
    /// Protein of the wild type, to be translated back
    #[arg(long, value_name = "FASTA", conflicts_with = "cds")]
    protein: Option<PathBuf>,
    /// Use this sequence of --cds or --protein
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Genome to score the gene in; it is looked for there, or named by --region
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: Option<PathBuf>,
    /// Where the gene lies, counted from 1; without --cds also what it is
    #[arg(long, value_name = "CONTIG:FROM-TO[:+|:-]", requires = "fasta")]
    region: Option<String>,
    /// Annotation of the genome, from which codon use is counted
    #[arg(long, value_name = "GFF3", requires = "fasta")]
    gff: Option<PathBuf>,
    /// Circular contigs of the genome: names, or all
    #[arg(
        long,
        value_name = "NAME,...|all",
        value_delimiter = ',',
        requires = "fasta"
    )]
    circular: Vec<String>,
    #[command(flatten)]
    model: ScorerArg,
    /// Table of scores (.tsv, .csv, also .gz, or .parquet); - for standard output
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Codon of a new amino acid
    #[arg(long, value_enum, default_value = "nearest")]
    codon: CodonArg,
    /// Genetic code: 4, 11 or 25
    #[arg(long, value_name = "TABLE", default_value = "11")]
    genetic_code: u32,
    /// Number that the table gives the first codon [default: the one that fits]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    offset: Option<i64>,
    /// Column of the changes [default: mutant, variant, mutations, hgvs_pro or hgvs_nt]
    #[arg(long, value_name = "NAME")]
    mutant_column: Option<String>,
    /// Column of what was measured, high for fit [default: DMS_score, score or fitness]
    #[arg(long, value_name = "NAME")]
    score_column: Option<String>,
    /// Column of the class, 1 for fit [default: DMS_score_bin, or above the median]
    #[arg(long, value_name = "NAME")]
    bin_column: Option<String>,
    /// Column of whole DNA sequences, scored by their own likelihood or in place of --region
    #[arg(long, value_name = "NAME", conflicts_with_all = ["mutant_column", "cds", "protein"])]
    sequence_column: Option<String>,
    /// Sequences that the Markov chains are fitted to [default: --fasta, else the gene alone]
    #[arg(long, value_name = "FASTA,...", value_delimiter = ',')]
    background: Vec<PathBuf>,
    #[command(flatten)]
    frame: FrameArg,
    /// Score about this many rows, evenly spaced
    #[arg(long, value_name = "N")]
    max_variants: Option<usize>,
    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// What became of a row.
struct Scored {
    edits: Vec<Edit>,
    /// The score, or why there is none.
    score: Result<f64, String>,
}

pub fn run(global: &Global, command: &Dms) -> anyhow::Result<()> {
    let device = global.device()?;
    if let Some(path) = &command.output {
        table::claim(path, command.force)?;
    }
    let columns = Columns {
        mutant: command.mutant_column.clone(),
        score: command.score_column.clone(),
        bin: command.bin_column.clone(),
        sequence: command.sequence_column.clone(),
    };
    let mut measured = Table::read(&command.dms, &columns)?;
    thin(&mut measured, command.max_variants);
    let wild = Wild::resolve(command, &measured)?;
    wild.log();
    let (engine, model) = command.model.start(global, device, wild.genome.as_ref())?;
    let (frame, said) = command.frame.resolve(super::score::GRID, &engine);
    tracing::info!("{said}");
    let placed = wild.placed(&engine, &frame);
    let scored = match &wild.target {
        Some(_) => score_changes(global, command, &measured, &wild, &placed, &engine, &frame)?,
        None => score_sequences(global, &measured, &wild, placed.as_ref(), &engine, &frame)?,
    };
    let unscored = scored.iter().filter(|row| row.score.is_err()).count();
    if unscored > 0 {
        let first = scored
            .iter()
            .zip(&measured.rows)
            .find_map(|(scored, row)| Some((row.line, scored.score.as_ref().err()?)));
        if let Some((line, reason)) = first {
            tracing::warn!(
                "{}: {unscored} of {} rows are not scored, the first on line {line}: {reason}",
                measured.file,
                scored.len()
            );
        }
    }
    if unscored == scored.len() {
        bail!("{}: no row could be scored", measured.file);
    }
    let baselines = report::baselines(command, &wild, placed.as_ref(), &measured, &scored)?;
    let provenance = [
        ("tool_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_line()),
        ("model", model.clone()),
        ("settings", said),
        ("wild_type", wild.said.clone()),
        ("table", measured.file.clone()),
    ]
    .map(|(key, value)| (format!("cistron_{key}"), value));
    if let Some(path) = &command.output {
        write(path, &measured, &scored, &baselines, &provenance)?;
    }
    let prints = command
        .output
        .as_deref()
        .is_none_or(|path| path.as_os_str() != "-");
    let report = Report::of(command, &model, &wild, &measured, &scored, &baselines);
    match report {
        Some(report) if prints => report.print(command.json),
        Some(_) => Ok(()),
        None if command.output.is_some() => {
            tracing::info!("fewer than three rows have a measured value: nothing to correlate");
            Ok(())
        }
        None => bail!(
            "{}: fewer than three rows have both a score and a number in column '{}'; name \
             another column with --score-column, or an output with -o",
            measured.file,
            measured.score
        ),
    }
}

/// Keeps about `wanted` rows, evenly spaced.
fn thin(measured: &mut Table, wanted: Option<usize>) {
    let total = measured.rows.len();
    let Some(wanted) = wanted.filter(|&wanted| wanted < total) else {
        return;
    };
    let mut number = 0;
    measured.rows.retain(|_| {
        number += 1;
        (number - 1) * wanted / total != number * wanted / total
    });
}

fn code(command: &Dms) -> anyhow::Result<GeneticCode> {
    super::score::genetic_code(command.genetic_code)
}

fn changes(measured: &Table) -> Vec<Result<Vec<Change>, String>> {
    let rows = measured.rows.iter();
    rows.map(|row| mutation::parse(&row.mutant)).collect()
}

fn score_changes(
    global: &Global,
    command: &Dms,
    measured: &Table,
    wild: &Wild,
    placed: &Option<Placed>,
    engine: &Engine,
    frame: &Frame,
) -> anyhow::Result<Vec<Scored>> {
    let (target, placed) = wild
        .target
        .as_ref()
        .zip(placed.as_ref())
        .context("a target is placed")?;
    let choice = match command.codon {
        CodonArg::Nearest => Choice::Nearest,
        CodonArg::Frequent => Choice::Frequent,
        CodonArg::Mean => Choice::All,
    };
    let edits: Vec<Result<Vec<Edit>, String>> = changes(measured)
        .into_iter()
        .map(|changes| target.edits(&changes?, choice, &wild.usage))
        .collect();
    let variants: Vec<Vec<Edit>> = edits
        .iter()
        .map(|edits| edits.clone().unwrap_or_default())
        .collect();
    let mut progress = Progress::new(global, "score dms", "variants", Some(variants.len() as u64));
    let scores = dms::score(engine, placed, &variants, frame, &mut |done| {
        progress.set(done);
    })?;
    let rate = progress.finish();
    tracing::info!("{} variants, {rate:.1} a second", variants.len());
    Ok(edits
        .into_iter()
        .zip(scores)
        .map(|(edits, score)| match edits {
            Ok(edits) => Scored {
                edits,
                score: score.map_err(|status| format!("no window holds it ({})", status.word())),
            },
            Err(reason) => Scored {
                edits: Vec::new(),
                score: Err(reason),
            },
        })
        .collect())
}

fn score_sequences(
    global: &Global,
    measured: &Table,
    wild: &Wild,
    placed: Option<&Placed>,
    engine: &Engine,
    frame: &Frame,
) -> anyhow::Result<Vec<Scored>> {
    let sequences: Vec<Result<Vec<u8>, String>> = measured
        .rows
        .iter()
        .map(|row| {
            let bases = row.mutant.to_ascii_uppercase().into_bytes();
            match bases.iter().find(|base| !b"ACGTN".contains(base)) {
                Some(odd) => Err(format!("'{}' is no base", char::from(*odd))),
                None if bases.is_empty() => Err("has no bases".into()),
                None => Ok(bases),
            }
        })
        .collect();
    let mut progress = Progress::new(
        global,
        "score dms",
        "sequences",
        Some(sequences.len() as u64),
    );
    let edit = |bases: &[u8]| Edit {
        start: 0,
        reference: wild.region.clone(),
        alternate: bases.to_vec(),
    };
    let edits: Vec<Vec<Edit>> = sequences
        .iter()
        .map(|bases| {
            bases
                .as_ref()
                .map(|bases| vec![edit(bases)])
                .unwrap_or_default()
        })
        .collect();
    let scores: Vec<Result<f64, String>> = match placed {
        Some(placed) => dms::score(engine, placed, &edits, frame, &mut |done| {
            progress.set(done);
        })?
        .into_iter()
        .map(|score| score.map_err(|status| format!("no window holds it ({})", status.word())))
        .collect(),
        None => {
            let all: Vec<Vec<u8>> = sequences
                .iter()
                .map(|bases| bases.clone().unwrap_or_default())
                .collect();
            let read = dms::likelihoods(engine, &all, &frame.strands, &mut |done| {
                progress.set(done);
            })?;
            read.into_iter().map(Ok).collect()
        }
    };
    progress.finish();
    Ok(sequences
        .into_iter()
        .zip(edits)
        .zip(scores)
        .map(|((bases, edits), score)| Scored {
            edits,
            score: bases.and(score),
        })
        .collect())
}

fn write(
    path: &std::path::Path,
    measured: &Table,
    scored: &[Scored],
    baselines: &[Measured],
    provenance: &[(String, String)],
) -> anyhow::Result<()> {
    let mut columns = vec![
        ("mutant", Kind::Text),
        ("measured", Kind::Double),
        ("fit", Kind::Integer),
        ("score", Kind::Double),
        ("bases", Kind::Text),
        ("status", Kind::Text),
    ];
    columns.extend(baselines.iter().map(|b| (b.name, Kind::Double)));
    let mut table = OutTable::create(path, &columns, provenance)?;
    for (i, (row, scored)) in measured.rows.iter().zip(scored).enumerate() {
        let bases = match scored.edits.as_slice() {
            [edit] if !edit.reference.is_empty() => format!(
                "{}:{}>{}",
                edit.start + 1,
                String::from_utf8_lossy(&edit.reference),
                String::from_utf8_lossy(&edit.alternate)
            ),
            [] | [_] => String::new(),
            ways => format!("{} ways", ways.len()),
        };
        let status = scored.score.as_ref().err().map_or("OK", String::as_str);
        let mut cells = vec![
            Cell::Text(&row.mutant),
            Cell::from(row.score),
            row.bin
                .map_or(Cell::Missing, |fit| Cell::Integer(fit.into())),
            Cell::from(scored.score.as_ref().ok().copied()),
            Cell::from((!bases.is_empty()).then_some(bases.as_str())),
            Cell::Text(status),
        ];
        let known = scored.score.is_ok();
        cells.extend(
            baselines
                .iter()
                .map(|b| Cell::from(known.then_some(b.values[i]))),
        );
        table.row(&cells)?;
    }
    table.finish()
}

/// Reads a genome of which nothing but its sequences is wanted.
fn sequences(path: &std::path::Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let genome = Genome::read(path)?;
    if genome.contigs.iter().all(|contig| contig.bases.is_empty()) {
        bail!("{}: has no sequence", input_name(path));
    }
    let contigs = genome.contigs.into_iter();
    Ok(contigs
        .map(|contig| (contig.name.as_str().to_owned(), contig.bases))
        .collect())
}
