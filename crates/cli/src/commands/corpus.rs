//! `cistron corpus`.

use std::path::PathBuf;

use cistron_genome::corpus::{Corpus, CorpusBuilder, Duplicates, Split, SplitStats};
use clap::{Args, Subcommand, ValueEnum};

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
  cistron corpus build --out corpus --table genomes.tsv --val-lineage Archaea --near-duplicates together

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
    /// Lineages kept for validation, with all below them; from the column `lineage` of the table
    #[arg(long, value_name = "LINEAGE", value_delimiter = ',')]
    val_lineage: Vec<String>,
    /// What is done with genomes that are nearly the same
    #[arg(long, value_enum, default_value = "report", value_name = "WHAT")]
    near_duplicates: DuplicatesArg,
    /// Share of equal bases, by estimate, from which genomes are near-duplicates
    #[arg(long, value_name = "SHARE", default_value_t = CorpusBuilder::ALIKE, value_parser = share)]
    identity: f64,
    /// A table of genomes: tab-separated, with a header naming columns `fasta` and perhaps `name`,
    /// `split`, `lineage` and `gff`
    #[arg(long, value_name = "FILE.tsv")]
    table: Option<PathBuf>,
    /// Keep where codons lie, from the column `gff` of the table: for models whose chunks are codons
    #[arg(long, requires = "table")]
    codons: bool,
    /// Replace an existing corpus
    #[arg(long)]
    force: bool,
}

/// What is done with genomes that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DuplicatesArg {
    /// They are named, and share the sampling weight of one genome
    Report,
    /// One of each cluster stays: the first for validation, else the longest
    Drop,
    /// As report; a cluster with a validation genome is for validation as a whole
    Together,
}

impl From<DuplicatesArg> for Duplicates {
    fn from(what: DuplicatesArg) -> Self {
        match what {
            DuplicatesArg::Report => Self::Report,
            DuplicatesArg::Drop => Self::Drop,
            DuplicatesArg::Together => Self::Together,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err("expected more than 0 and at most 1".into())
    }
}

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
        .validation_lineages(command.val_lineage)
        .near_duplicates(command.near_duplicates.into(), command.identity)
        .codons(command.codons)
        .force(command.force);
    if let Some(table) = &command.table {
        builder = builder.table(table)?;
    }
    for path in command.fasta {
        builder = builder.fasta(path);
    }
    let mut bases = 0;
    let built = builder.build_with(&command.out, |genome| {
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
    let stats = built.corpus.stats();
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
    let together = command.near_duplicates == DuplicatesArg::Together;
    for pair in built.near_duplicates {
        let settled = |name: &String| built.dropped.contains(name);
        let outcome = match (settled(&pair.first), settled(&pair.second)) {
            (true, true) => ": both are dropped for another".to_owned(),
            (true, false) => format!(": {} is dropped", pair.first),
            (false, true) => format!(": {} is dropped", pair.second),
            _ if pair.across_splits && together => ": both are for validation".to_owned(),
            _ if pair.across_splits => ": one is for validation, so validation would measure \
                 memory; keep them together with --near-duplicates together"
                .to_owned(),
            _ => String::new(),
        };
        tracing::warn!(
            "{} and {} are near-duplicates (about {:.1} % identity){outcome}",
            pair.first,
            pair.second,
            100.0 * pair.identity
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
    for alike in &stats.clusters {
        text += &format!("\nnear-duplicates\t{}\n", alike.join("\t"));
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
