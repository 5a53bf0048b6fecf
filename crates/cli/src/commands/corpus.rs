//! `cistron corpus`.

use std::path::PathBuf;

use cistron_genome::corpus::{Corpus, CorpusBuilder, Split, SplitStats};
use clap::{Args, Subcommand};

use crate::global::Global;
use crate::output;

/// What to do with a corpus.
#[derive(Debug, Subcommand)]
pub enum CorpusCommand {
    /// Pack FASTA files into a corpus: 2 bits a base, with exact runs of every other code
    Build(Build),
    /// Print genomes, bases, GC and identical genomes of a corpus
    Stats(Stats),
    /// Print a genome of a corpus as FASTA
    Export(Export),
    /// Check every base of a corpus against its manifest
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron corpus build --out corpus genomes/*.fna.gz
  cistron corpus build --out corpus --val Treponema_pallidum train/*.fna.gz Treponema_pallidum.fna.gz

A genome is named after its file, without .fna, .fa or .fasta and .gz. Genomes named by --val
are kept for validation: choose whole lineages, not near-duplicates of training genomes.")]
pub struct Build {
    /// FASTA files: plain, gzip or BGZF
    #[arg(required_unless_present = "table", value_name = "FASTA")]
    fasta: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Genomes kept for validation
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    val: Vec<String>,
    /// A table of genomes: tab-separated, with a header naming columns `name`, `fasta` and perhaps `split`
    #[arg(long, value_name = "FILE.tsv")]
    table: Option<PathBuf>,
    /// Replace an existing corpus
    #[arg(long)]
    force: bool,
}

/// Genomes this alike, by estimate, are reported.
const ALIKE: f64 = 0.95;

#[derive(Debug, Args)]
pub struct Stats {
    /// Corpus folder
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Corpus folder
    dir: PathBuf,
    /// Genome to print
    genome: String,
    /// Bases a line [default: as in the file it came from]
    #[arg(long, value_name = "N")]
    width: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Corpus folder
    dir: PathBuf,
}

pub fn run(global: &Global, command: CorpusCommand) -> anyhow::Result<()> {
    global.start_pool();
    match command {
        CorpusCommand::Build(command) => build(command),
        CorpusCommand::Stats(command) => stats(&command),
        CorpusCommand::Export(command) => export(&command),
        CorpusCommand::Verify(command) => {
            Corpus::open(&command.dir)?.verify()?;
            tracing::info!(
                "{}: every genome is as its manifest says",
                command.dir.display()
            );
            Ok(())
        }
    }
}

fn build(command: Build) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let mut builder = CorpusBuilder::new()
        .validation(command.val)
        .force(command.force);
    if let Some(table) = &command.table {
        builder = builder.table(table)?;
    }
    for path in command.fasta {
        builder = builder.fasta(path);
    }
    let mut bases = 0;
    let corpus = builder.build_with(&command.out, |genome| {
        bases += genome.bases;
        tracing::info!(
            "{}: {} contigs, {} bases{}",
            genome.name,
            genome.contigs.len(),
            genome.bases,
            if genome.split == Split::Val {
                ", for validation"
            } else {
                ""
            }
        );
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let stats = corpus.stats();
    tracing::info!(
        "{}: {} training and {} validation genomes, {bases} bases in {seconds:.1} s ({:.0} MB/s)",
        command.out.display(),
        stats.train.genomes,
        stats.val.genomes,
        bases as f64 / seconds / 1e6
    );
    for same in &stats.identical {
        tracing::warn!("identical genomes: {}", same.join(", "));
    }
    for pair in corpus.near_duplicates(ALIKE)? {
        tracing::warn!(
            "{} and {} are near-duplicates (about {:.1} % identity){}",
            pair.first,
            pair.second,
            100.0 * pair.identity,
            if pair.across_splits {
                ": one is for validation, so validation would measure memory"
            } else {
                ""
            }
        );
    }
    Ok(())
}

fn stats(command: &Stats) -> anyhow::Result<()> {
    let corpus = Corpus::open(&command.dir)?;
    let stats = corpus.stats();
    if command.json {
        return output::print_json(&serde_json::to_value(&stats)?);
    }
    let mut text = String::from("split\tgenomes\tcontigs\tbases\tgc\tambiguous\n");
    for (name, split) in [
        ("train", stats.train),
        ("val", stats.val),
        ("total", stats.total),
    ] {
        let SplitStats {
            genomes,
            contigs,
            bases,
            gc,
            ambiguous,
        } = split;
        text += &format!("{name}\t{genomes}\t{contigs}\t{bases}\t{gc:.4}\t{ambiguous}\n");
    }
    text += "\ngenome\tsplit\tcontigs\tbases\tgc\tambiguous\n";
    for genome in corpus.genomes() {
        text += &format!(
            "{}\t{}\t{}\t{}\t{:.4}\t{}\n",
            genome.name,
            if genome.split == Split::Val {
                "val"
            } else {
                "train"
            },
            genome.contigs.len(),
            genome.bases,
            genome.gc,
            genome.ambiguous
        );
    }
    for same in &stats.identical {
        text += &format!("\nidentical\t{}\n", same.join("\t"));
    }
    output::print(&text)
}

fn export(command: &Export) -> anyhow::Result<()> {
    let corpus = Corpus::open(&command.dir)?;
    let genome = corpus.genome_index(&command.genome)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    corpus.export_fasta(genome, command.width, &mut out)?;
    Ok(())
}
