//! `cistron tracks`.

mod files;
mod genomes;
mod report;
mod serve;
mod summary;

use std::path::PathBuf;

use cistron_genome::coord::Strand;
use cistron_genome::system::cannot_write;
use cistron_score::boundaries::{self, Piece, Reading, Spool};
use cistron_score::{Engine, ScoreError};
use clap::{Args, ValueEnum};

use self::genomes::Input;
use crate::failure::Usage;
use crate::global::Global;
use crate::models::{InferenceArg, Loaded};
use crate::output;
use crate::progress::Progress;
use crate::stop;

/// What a track is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Values of bases, .bw
    Bigwig,
    /// The same as text, .bedGraph.gz with a tabix index
    Bedgraph,
    /// Chunks, .bed.gz with a tabix index
    Bed,
    /// Chunks and genes, .bb
    Bigbed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strands {
    /// Both, in files of their own
    Both,
    /// The forward strand
    Fwd,
    /// The reverse strand
    #[value(alias = "rc")]
    Rev,
}

impl Strands {
    fn list(self) -> &'static [Strand] {
        match self {
            Self::Both => &[Strand::Forward, Strand::Reverse],
            Self::Fwd => &[Strand::Forward],
            Self::Rev => &[Strand::Reverse],
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron tracks --fasta ref.fna.gz --gff ref.gff3.gz -o tracks
  cistron tracks --fasta a.fna.gz b.fna.gz --gff a.gff3.gz b.gff3.gz -o tracks
  cistron tracks --serve -o tracks --jbrowse node_modules/@jbrowse/react-app2

For each strand and stage: the probability that a chunk starts at a base, the chunks, and their
length; for each strand the information and entropy of every base. Beside them the genome and its
genes, sessions for JBrowse 2, IGV, igv.js and UCSC, report.html and summary.json. Each strand is
read once from end to end with carried state: values do not depend on --tile or --threads.")]
pub struct Tracks {
    /// Genomes to read; each of several gets a folder of its own
    #[arg(
        long,
        short = 'f',
        value_name = "FASTA",
        num_args = 1..,
        required_unless_present = "serve"
    )]
    fasta: Vec<PathBuf>,
    /// Annotations, for circular contigs, genes and the report; of several genomes by file name
    #[arg(long, value_name = "GFF3", num_args = 1.., requires = "fasta")]
    gff: Vec<PathBuf>,
    #[command(flatten)]
    model: InferenceArg,
    /// Folder to write, or with --serve alone to show
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Formats to write
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "bigwig,bedgraph,bed,bigbed"
    )]
    formats: Vec<Format>,
    /// Strands to read
    #[arg(long, value_enum, default_value = "both")]
    strand: Strands,
    /// Circular contigs: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Bases that attention without a window looks back on; 0 for all [default: the model's training context]
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Bases of a circular contig's end to read before its origin [default: the model's training context]
    #[arg(long, value_name = "N")]
    warm_up: Option<u32>,
    /// Bases that a thread reads before they are kept on disk; no value depends on it
    #[arg(long, value_name = "N", default_value = "262144", value_parser = clap::value_parser!(u32).range(1..))]
    tile: u32,
    /// Table of `score genes`, whose scores genes.gff3.gz then has
    #[arg(long, value_name = "TSV", requires = "gff")]
    gene_scores: Option<PathBuf>,
    /// Genes to draw in the report: names or locus tags [default: some evenly spaced]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    genes: Vec<String>,
    /// Shuffled bases a strand that the report's control reads; 0 for none
    #[arg(long, value_name = "N", default_value = "200000")]
    control: u32,
    /// Write no report
    #[arg(long)]
    no_report: bool,
    /// Show the folder to a browser on this machine, until stopped
    #[arg(long)]
    serve: bool,
    /// Port to serve on [default: a free one]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    port: u16,
    /// Local copy of JBrowse 2: @jbrowse/react-app2 from npm, or an unpacked JBrowse Web
    #[arg(long, value_name = "DIR", requires = "serve")]
    jbrowse: Option<PathBuf>,
    /// Local copy of igv.js: igv from npm
    #[arg(long, value_name = "DIR", requires = "serve")]
    igv: Option<PathBuf>,
    /// Open the page in the browser of this machine
    #[arg(long, requires = "serve")]
    open: bool,
    /// Write into a folder that holds something
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: Tracks) -> anyhow::Result<()> {
    // A copy that is not there should be known before hours of reading.
    let copies = serve::Copies::find(command.jbrowse.as_deref(), command.igv.as_deref())?;
    if !command.fasta.is_empty() {
        write(global, &command)?;
    } else if !command.out.is_dir() {
        return Err(Usage(format!(
            "--out {}: no such folder; write one with --fasta",
            command.out.display()
        ))
        .into());
    }
    if command.serve {
        serve::run(&command.out, &copies, command.port, command.open)?;
    }
    Ok(())
}

fn write(global: &Global, command: &Tracks) -> anyhow::Result<()> {
    global.start_pool();
    let device = global.device()?;
    let inputs = genomes::read(command)?;
    let loaded = command.model.load(device)?;
    let trained = usize::try_from(loaded.model.config().cistron.context).unwrap_or(0);
    let trained = if trained == 0 { 8192 } else { trained };
    let context = command.context.map_or(trained, |context| context as usize);
    let model = boundaries::bounded(&loaded.model, context);
    let engine = Engine::new(&model, global.threads())?.with_stop(stop::flag());
    let settings = Settings {
        context,
        block: boundaries::block(device),
        reading: Reading {
            warm_up: command.warm_up.map_or(trained, |bases| bases as usize),
            tile: command.tile as usize,
        },
    };
    output::claim_folder(&command.out, command.force)?;
    for input in &inputs {
        one(global, command, &engine, &loaded, settings, input)?;
    }
    if inputs.len() > 1 {
        summary::index(&command.out, &inputs)?;
    }
    Ok(())
}

/// How genomes are read.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Bases that attention looks back on.
    context: usize,
    /// Tokens of a forward pass.
    block: usize,
    reading: Reading,
}

fn one(
    global: &Global,
    command: &Tracks,
    engine: &Engine,
    loaded: &Loaded,
    settings: Settings,
    input: &Input,
) -> anyhow::Result<()> {
    let genome = &input.genome;
    std::fs::create_dir_all(&input.out)
        .map_err(|error| anyhow::anyhow!("{}: cannot be created: {error}", input.out.display()))?;
    let strands = command.strand.list();
    let spools = strands
        .iter()
        .map(|&strand| {
            let spool = Spool::create(&input.out, genome.total_len(), engine.stages());
            spool.map(|spool| (strand, spool)).map_err(|error| {
                anyhow::anyhow!("{}: cannot be written: {error}", input.out.display())
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let firsts: Vec<u64> = genome
        .contigs
        .iter()
        .scan(0, |next, contig| {
            let first = *next;
            *next += contig.bases.len() as u64;
            Some(first)
        })
        .collect();
    let total = genome.total_len() * strands.len() as u64;
    let mut progress = Progress::new(global, "tracks", "bases", Some(total));
    let mut sink = |contig: usize, strand: Strand, piece: Piece| -> Result<(), ScoreError> {
        let spool = spools.iter().find(|(own, _)| *own == strand);
        if let Some((_, spool)) = spool {
            spool.put(firsts[contig], &piece)?;
        }
        progress.add(piece.information.len() as u64);
        Ok(())
    };
    boundaries::read(
        engine,
        &genome.contigs,
        strands,
        settings.reading,
        &mut sink,
    )
    .map_err(|error| match error {
        ScoreError::Spool(source) => {
            anyhow::anyhow!("{}: {}", input.out.display(), cannot_write(&source))
        }
        error => error.into(),
    })?;
    let rate = progress.finish();
    let session = files::write(command, input, &spools)?;
    summary::write(command, engine, loaded, settings, input, &spools, &session)?;
    tracing::info!("{}: read at {rate:.0} bases a second", input.out.display());
    Ok(())
}
