//! `cistron score`.

use std::path::PathBuf;

use anyhow::Context;
use cistron_genome::code::GeneticCode;
use cistron_genome::compression::input_name;
use cistron_genome::coord::Strand;
use cistron_genome::fasta::{CircularSpec, Genome};
use cistron_genome::gff::Annotation;
use cistron_score::Engine;
use cistron_score::difference::Frame;
use cistron_score::error::ScoreError;
use cistron_score::vcf::{self, Target, VcfOptions};
use cistron_variant::aliases::ContigAliases;
use cistron_variant::annotate::{Declaration, Provenance};
use cistron_variant::consequence::Genes;
use cistron_variant::mismatch::MismatchPolicy;
use cistron_variant::vcf::Reader;
use cistron_variant::writer::{OutputKind, VcfWriter, WriterOptions};
use clap::{Args, Subcommand, ValueEnum};

use crate::commands::{command_line, eval, genes, saturate};
use crate::failure::Usage;
use crate::global::Global;
use crate::models::InferenceArg;
use crate::progress::Progress;
use crate::stop;

/// What to score.
#[derive(Debug, Subcommand)]
pub enum ScoreCommand {
    /// Score every ALT of a VCF and write the scores into its INFO column
    Vcf(Vcf),
    /// Score every single-nucleotide change of a region or of whole contigs
    Saturate(saturate::Saturate),
    /// Score genes by what premature stop codons do, beside essentiality labels
    Genes(genes::Genes),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strands {
    /// The mean of both strands
    Both,
    /// The forward strand
    Fwd,
    /// The reverse complement
    Rc,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mismatch {
    /// Keep the line unscored, with the status REF_MISMATCH
    Skip,
    /// Stop
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutputType {
    /// Plain VCF
    V,
    /// BGZF
    Z,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score vcf --fasta ref.fna.gz --model run/model in.vcf.gz -o out.vcf.gz --write-index
  bcftools view in.bcf | cistron score vcf --fasta ref.fna.gz --model run/model - > out.vcf
  cistron score vcf --fasta ref.fna.gz --model run/model --circular all in.vcf | bcftools view -i 'INFO/CIS_LLR<-5'

CIS_LLR (Number=A) is the log-likelihood of the window with the ALT minus that with the REF, in
nats: negative means that the model finds the ALT less likely. CIS_STATUS (Number=A) is OK or says
why an ALT has no score. Every line is kept, in its order; only INFO changes. Variants are scored
one by one, whatever lies near them. Normalise indels first: bcftools norm -f ref.fna -m -any.
Scores do not depend on --threads nor on the other variants of the file.")]
pub struct Vcf {
    /// VCF to score: plain, gzip or BGZF; - for standard input
    #[arg(value_name = "IN.vcf")]
    input: PathBuf,
    /// Reference of the variants
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: PathBuf,
    #[command(flatten)]
    model: InferenceArg,
    /// Annotation: adds the consequence of each ALT (CIS_CSQ) and its gene (CIS_GENE), and says
    /// which contigs are circular (Is_circular=true)
    #[arg(long, value_name = "GFF3")]
    gff: Option<PathBuf>,
    /// Genetic code of genes without transl_table: 4, 11 or 25
    #[arg(long, value_name = "TABLE", default_value = "11")]
    genetic_code: u32,
    /// Output; - for standard output
    #[arg(long, short, value_name = "OUT.vcf[.gz]", default_value = "-")]
    output: PathBuf,
    /// Output type: v plain, z BGZF [default: by the suffix]
    #[arg(long, short = 'O', value_enum, value_name = "TYPE")]
    output_type: Option<OutputType>,
    #[command(flatten)]
    frame: FrameArg,
    /// Variants in the same cell of N bases share what is read before them: faster where they
    /// are dense; their windows begin up to N - 1 bases earlier
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    grid: u32,
    /// Circular contigs, whose windows wrap: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Other names of contigs: two columns, or an NCBI assembly report
    #[arg(long, value_name = "FILE")]
    contig_aliases: Option<PathBuf>,
    /// What a REF that differs from the FASTA does
    #[arg(long, value_enum, default_value = "skip")]
    ref_mismatch: Mismatch,
    /// Write a tabix index beside a BGZF output
    #[arg(long, short = 'W')]
    write_index: bool,
    /// Leave version, command and digests out of the header
    #[arg(long)]
    no_version: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

/// What is read around each variant.
#[derive(Debug, Args)]
pub struct FrameArg {
    /// Strands to read
    #[arg(long, value_enum, default_value = "both")]
    strand: Strands,
    /// Bases a window, half of them before the variant [default: the model's training context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    context: Option<u32>,
    /// Bases that count from the variant on [default: to the end of the window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    horizon: Option<u32>,
}

impl FrameArg {
    /// The frame, and what to say of it.
    pub fn resolve(&self, grid: u32, engine: &Engine) -> (Frame, String) {
        let context = eval::context(self.context, engine);
        let (strands, said) = match self.strand {
            Strands::Both => (
                vec![Strand::Forward, Strand::Reverse],
                "mean of both strands",
            ),
            Strands::Fwd => (vec![Strand::Forward], "forward strand"),
            Strands::Rc => (vec![Strand::Reverse], "reverse strand"),
        };
        let counted = self.horizon.map_or_else(
            || "to the end of the window".to_owned(),
            |horizon| format!("over {horizon} bases from the variant"),
        );
        let shared = match grid {
            1 => String::new(),
            grid => format!(", shared in cells of {grid} bases"),
        };
        let frame = Frame {
            context,
            horizon: self.horizon.map(|horizon| horizon as usize),
            grid: grid as usize,
            strands,
        };
        let said = format!("windows of {context} bases{shared}, {counted}, {said}");
        (frame, said)
    }
}

pub fn run(global: &Global, command: ScoreCommand) -> anyhow::Result<()> {
    global.start_pool();
    match command {
        ScoreCommand::Vcf(command) => score_vcf(global, command),
        ScoreCommand::Saturate(command) => saturate::run(global, &command),
        ScoreCommand::Genes(command) => genes::run(global, &command),
    }
}

/// Reads a genome and marks its circular contigs, by name and by annotation.
pub fn read_genome(
    fasta: &std::path::Path,
    gff: Option<&std::path::Path>,
    circular: &[String],
) -> anyhow::Result<(Genome, Option<Annotation>)> {
    let mut genome = Genome::read(fasta)?;
    let spec = match circular {
        [] => CircularSpec::None,
        [all] if all == "all" => CircularSpec::All,
        names => CircularSpec::Names(names.to_vec()),
    };
    genome.set_circular(&spec).context("--circular")?;
    let annotation = gff
        .map(|gff| Annotation::read(gff, Some(&genome)))
        .transpose()?;
    if let Some(annotation) = &annotation {
        let names = annotation
            .circular_contigs()
            .iter()
            .map(ToString::to_string)
            .collect();
        genome.set_circular(&CircularSpec::Names(names))?;
    }
    Ok((genome, annotation))
}

fn score_vcf(global: &Global, command: Vcf) -> anyhow::Result<()> {
    let to_stdout = command.output.as_os_str() == "-";
    if command.write_index && to_stdout {
        return Err(Usage("--write-index needs an output file (-o OUT.vcf.gz)".into()).into());
    }
    let device = global.device()?;
    let (genome, annotation) =
        read_genome(&command.fasta, command.gff.as_deref(), &command.circular)?;
    let code = GeneticCode::from_table(command.genetic_code).ok_or_else(|| {
        Usage(format!(
            "--genetic-code {}: expected 4, 11 or 25",
            command.genetic_code
        ))
    })?;
    let genes = annotation
        .as_ref()
        .map(|annotation| Genes::new(annotation, &genome, code))
        .transpose()?;
    let aliases = match &command.contig_aliases {
        Some(path) => ContigAliases::read(path, &genome)?,
        None => ContigAliases::default(),
    };
    let mut reader = Reader::open(&command.input)?;
    for warning in reader.header().warnings() {
        tracing::warn!("{}: {warning}", reader.file());
    }
    let writer = VcfWriter::create(
        &command.output,
        WriterOptions {
            kind: match command.output_type {
                None => OutputKind::BySuffix,
                Some(OutputType::V) => OutputKind::Plain,
                Some(OutputType::Z) => OutputKind::Bgzf,
            },
            force: command.force,
            write_index: command.write_index,
        },
    )?;
    let loaded = command.model.load(device)?;
    let engine = Engine::new(&loaded.model, global.threads())?.with_stop(stop::flag());
    let (frame, said) = command.frame.resolve(command.grid, &engine);
    let declaration = Declaration {
        llr: format!("Log-likelihood of the ALT window minus the REF window in nats, {said}"),
        consequence: command.gff.as_deref().map(input_name),
        provenance: (!command.no_version).then(|| Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: command_line(),
            model: loaded.provenance.clone(),
            reference: format!("{};sha256={}", command.fasta.display(), genome.digest()),
        }),
    };
    let options = VcfOptions {
        frame,
        mismatch: match command.ref_mismatch {
            Mismatch::Skip => MismatchPolicy::Skip,
            Mismatch::Error => MismatchPolicy::Error,
        },
    };
    let mut progress = Progress::new(global, "score vcf", "records", None);
    let summary = vcf::score(
        &engine,
        Target {
            genome: &genome,
            aliases: &aliases,
            genes: genes.as_ref(),
        },
        &mut reader,
        writer,
        &declaration,
        &options,
        &mut |done| progress.set(done),
    )
    .map_err(|error| match error {
        ScoreError::Mismatch(_) => anyhow::Error::new(error).context(input_name(&command.input)),
        error => error.into(),
    })?;
    let rate = progress.finish();
    let alts: u64 = summary.statuses.values().sum();
    tracing::info!(
        "{} records, {} of {alts} ALT alleles scored ({rate:.1} records a second)",
        summary.records,
        summary.scored()
    );
    for (consequence, (count, sum)) in &summary.consequences {
        let mean = sum / *count as f64;
        tracing::info!("{consequence}: {count} scored, mean {mean:.3}");
    }
    for (status, count) in summary
        .statuses
        .iter()
        .filter(|(status, _)| **status != "OK")
    {
        tracing::info!("not scored: {count} {status}");
    }
    for (contig, count) in summary.unknown_contigs.iter().take(5) {
        tracing::warn!(
            "contig '{contig}' is not in {}: {count} records; map it with --contig-aliases",
            command.fasta.display()
        );
    }
    Ok(())
}
