//! `cistron score genes`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cistron_genome::compression::input_name;
use cistron_score::genes::{self, GeneWindows, Knockout};
use cistron_tables::{Cell, Kind};
use clap::{Args, ValueEnum};

use crate::commands::command_line;
use crate::commands::score::{Horizon, horizon};
use crate::failure::Usage;
use crate::global::Global;
use crate::models::ScorerArg;
use crate::progress::Progress;
use crate::table::{self, OutTable};

mod job;
mod report;
mod supervised;

use job::{Gene, Job};

/// Genes scored together.
const BATCH: usize = 64;

/// Bases before a gene that its embedding has seen.
const BEFORE: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnockoutArg {
    /// 15 bases in place of 15
    Replace,
    /// 15 bases between two
    Insert,
    /// 15 bases between two, every 12 bases
    #[value(alias = "insert-every")]
    Every,
}

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score genes --fasta ref.fna.gz --gff ref.gff3.gz -o genes.tsv.gz
  cistron score genes --fasta ref.fna.gz --gff ref.gff3.gz --labels ess.tsv.gz \\
    --label-column call --positive essential --negative non-essential --json
  cistron score genes --sheet genomes.tsv --supervised --json

The score of a gene is the log-likelihood of the window around it less that of the window with stop
codons 12 bases into the gene, in nats: high where the model minds. With labels the AUROC and the
average precision of the score are printed beside those of gene length, of GC and of both in a
logistic regression, and what the score adds to both. Those regressions are fitted to the labels they
are measured on. With --supervised a logistic regression on the model's mean vector of each gene is
fitted to the other genomes of the sheet, or, of one genome, to the other four fifths of it.

The sheet has a row of names, then a row for each genome, separated by tabs: name, fasta, gff, labels,
label_column, positive, negative; paths are relative to it.")]
pub struct Genes {
    /// Genome
    #[arg(
        long,
        short = 'f',
        value_name = "FASTA",
        required_unless_present = "sheet"
    )]
    fasta: Option<PathBuf>,
    /// Its genes: CDS without pseudo=true
    #[arg(long, value_name = "GFF3", required_unless_present = "sheet")]
    gff: Option<PathBuf>,
    /// Several genomes with labels
    #[arg(long, value_name = "FILE.tsv", conflicts_with_all = ["fasta", "gff", "labels"])]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    model: ScorerArg,
    /// Table of genes (.tsv, .csv, also .gz, or .parquet); - for standard output [default: none
    /// with labels, else -]
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Labels: a table with tabs whose first column is a locus tag
    #[arg(long, value_name = "FILE.tsv", requires_all = ["label_column", "positive", "negative"])]
    labels: Option<PathBuf>,
    /// Column of the labels
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Labels of essential genes
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    positive: Vec<String>,
    /// Labels of the others; genes with any other word are left out
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    negative: Vec<String>,
    /// Also fit a logistic regression to the model's vectors, and measure it where it was not
    /// fitted
    #[arg(long)]
    supervised: bool,
    /// Bases a window; longer genes are left out
    #[arg(long, value_name = "N", default_value = "8192", value_parser = clap::value_parser!(u32).range(64..))]
    window: u32,
    /// Bases that count from the stop codons on, or full: to the end of the window
    #[arg(long, value_name = "N|full", default_value = "full", value_parser = horizon)]
    horizon: Horizon,
    /// How the stop codons are put in
    #[arg(long, value_enum, default_value = "replace")]
    knockout: KnockoutArg,
    /// Genetic code of genes without transl_table: 4, 11 or 25
    #[arg(
        long,
        visible_alias = "code",
        value_name = "TABLE",
        default_value = "11"
    )]
    genetic_code: u32,
    /// Score about this many genes of each genome, evenly spaced
    #[arg(long, value_name = "N")]
    max_genes: Option<usize>,
    /// Circular contigs, whose windows wrap: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Seed of bootstrap intervals
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// The genes of one genome with what was found.
struct Scored {
    name: String,
    genes: Vec<Gene>,
    scores: Vec<f64>,
    /// The model's vectors, where asked for.
    vectors: Vec<Vec<f32>>,
    /// Whether each is essential; none where there are no labels.
    positive: Option<Vec<bool>>,
}

pub fn run(global: &Global, command: &Genes) -> anyhow::Result<()> {
    let device = global.device()?;
    let jobs = Job::all(command)?;
    let labelled = jobs.iter().all(|job| job.labels.is_some());
    if !labelled && (command.json || command.supervised) {
        let problem = "--json and --supervised need labels: --labels, or --sheet with labels";
        return Err(Usage(problem.into()).into());
    }
    let output = match &command.output {
        Some(path) if path.as_os_str() == "-" && labelled => {
            return Err(Usage("-o - and labels both print; name a file".into()).into());
        }
        None if labelled => None,
        None => Some(PathBuf::from("-")),
        path => path.clone(),
    };
    if let Some(path) = &output {
        table::claim(path, command.force)?;
    }
    let mut read = Vec::with_capacity(jobs.len());
    for job in &jobs {
        read.push(job.read(command)?);
    }
    let (engine, model) = command.model.start(global, device, None)?;
    let total: usize = read.iter().map(|(genes, _)| genes.len()).sum();
    let mut progress = Progress::new(global, "score genes", "genes", Some(total as u64));
    let mut scored = Vec::with_capacity(jobs.len());
    for (job, (genes, positive)) in jobs.iter().zip(read) {
        let (mut scores, mut vectors) = (Vec::new(), Vec::new());
        for batch in genes.chunks(BATCH) {
            let windows: Vec<GeneWindows> = batch.iter().map(|gene| gene.windows.clone()).collect();
            scores.extend(genes::score(&engine, &windows, command.horizon.bases())?);
            if command.supervised {
                vectors.extend(genes::embed(&engine, &windows, BEFORE)?);
            }
            progress.add(batch.len() as u64);
        }
        scored.push(Scored {
            name: job.name.clone(),
            genes,
            scores,
            vectors,
            positive,
        });
    }
    let rate = progress.finish();
    tracing::info!("{total} genes, {rate:.1} a second");
    if let Some(path) = &output {
        write(path, command, &model, &scored)?;
    }
    match labelled {
        true => report::print(command, &model, &scored),
        false => Ok(()),
    }
}

fn write(
    path: &std::path::Path,
    command: &Genes,
    model: &str,
    scored: &[Scored],
) -> anyhow::Result<()> {
    let columns = [
        ("locus_tag", Kind::Text),
        ("chrom", Kind::Text),
        ("start", Kind::Integer),
        ("end", Kind::Integer),
        ("strand", Kind::Text),
        ("length", Kind::Integer),
        ("gc", Kind::Float),
        ("score", Kind::Float),
        ("essential", Kind::Integer),
        ("genome", Kind::Text),
    ];
    let horizon = match command.horizon.bases() {
        None => "full".to_owned(),
        Some(bases) => bases.to_string(),
    };
    let settings = format!(
        "window {}, horizon {horizon}, knockout {:?}",
        command.window, command.knockout
    );
    let metadata = [
        ("tool_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_line()),
        ("model", model.to_owned()),
        ("settings", settings.to_lowercase()),
    ]
    .map(|(key, value)| (format!("cistron_{key}"), value));
    let mut table = OutTable::create(path, &columns, &metadata)?;
    for genome in scored {
        for (i, gene) in genome.genes.iter().enumerate() {
            let label = genome.positive.as_ref().map(|positive| positive[i]);
            let strand = gene.strand.to_string();
            table.row(&[
                Cell::Text(&gene.name),
                Cell::Text(&gene.contig),
                Cell::Integer(gene.interval.start() as i64 + 1),
                Cell::Integer(gene.interval.end() as i64),
                Cell::Text(&strand),
                Cell::Integer(gene.length as i64),
                Cell::Number((gene.gc * 1e4).round() / 1e4),
                Cell::Number(genome.scores[i]),
                label.map_or(Cell::Missing, |label| Cell::Integer(label.into())),
                Cell::Text(&genome.name),
            ])?;
        }
    }
    table.finish()
}

impl From<KnockoutArg> for Knockout {
    fn from(knockout: KnockoutArg) -> Self {
        match knockout {
            KnockoutArg::Replace => Self::Replace,
            KnockoutArg::Insert => Self::Insert,
            KnockoutArg::Every => Self::InsertEvery,
        }
    }
}

/// Fails where no gene is left.
fn some_left(genes: &[Gene], job: &Job) -> anyhow::Result<()> {
    if genes.is_empty() {
        let labels = job.labels.as_ref().map(|labels| input_name(&labels.path));
        let labels = labels.context("genes are left out by labels alone")?;
        bail!(
            "{labels}: no locus tag is that of a gene of {} with one of the labels; check --gff, \
             --positive and --negative",
            input_name(&job.gff)
        );
    }
    Ok(())
}
