//! `cistron score`.

use anyhow::Context;
use cistron_genome::code::GeneticCode;
use cistron_genome::coord::Strand;
use cistron_genome::fasta::{CircularSpec, Genome};
use cistron_genome::gff::Annotation;
use cistron_score::Engine;
use cistron_score::difference::Frame;
use clap::{Args, Subcommand, ValueEnum};

use crate::commands::{dms, eval, genes, saturate, vcf};
use crate::failure::Usage;
use crate::global::Global;

/// Bases of the cells that variants share what is read before them in.
pub const GRID: u32 = 512;

/// What to score.
#[derive(Debug, Subcommand)]
pub enum ScoreCommand {
    /// Score every ALT of a VCF and write the scores into its INFO column
    Vcf(vcf::Vcf),
    /// Score every single-nucleotide change of a region or of whole contigs
    Saturate(saturate::Saturate),
    /// Score measured variants of a gene, beside baselines
    Dms(dms::Dms),
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

/// What is read around each variant.
#[derive(Debug, Args)]
pub struct FrameArg {
    /// Strands to read
    #[arg(long, value_enum, default_value = "both")]
    strand: Strands,
    /// Bases a window, half of them before the variant [default: 2048, at most the model's
    /// training context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    context: Option<u32>,
    /// Bases that count from the variant on, or full: to the end of the window
    #[arg(long, value_name = "N|full", default_value = "128", value_parser = horizon)]
    horizon: Horizon,
}

/// Bases a window, unless said otherwise: longer ones rank variants alike and take longer.
const CONTEXT: usize = 2048;

/// Bases that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// To the end of the window.
    Full,
    /// So many.
    Bases(u32),
}

impl Horizon {
    /// How many; none to the end.
    pub fn bases(self) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Bases(bases) => Some(bases as usize),
        }
    }
}

/// Reads `--horizon`.
pub fn horizon(text: &str) -> Result<Horizon, String> {
    if text == "full" {
        return Ok(Horizon::Full);
    }
    let bases = text.parse().ok().filter(|bases| *bases > 0);
    let bases = bases.ok_or("expected a number of bases from 1 on, or full")?;
    Ok(Horizon::Bases(bases))
}

/// The genetic code of `--genetic-code`.
pub fn genetic_code(table: u32) -> anyhow::Result<GeneticCode> {
    GeneticCode::from_table(table)
        .ok_or_else(|| Usage(format!("--genetic-code {table}: expected 4, 11 or 25")).into())
}

impl FrameArg {
    /// The frame, and what to say of it.
    pub fn resolve(&self, grid: u32, engine: &Engine) -> (Frame, String) {
        let context = match self.context {
            Some(context) => context as usize,
            None => eval::context(None, engine).min(CONTEXT),
        };
        // Cells are no longer than what lies before a variant.
        let grid = grid
            .min((context / 2).try_into().unwrap_or(u32::MAX))
            .max(1);
        let (strands, said) = match self.strand {
            Strands::Both => (
                vec![Strand::Forward, Strand::Reverse],
                "mean of both strands",
            ),
            Strands::Fwd => (vec![Strand::Forward], "forward strand"),
            Strands::Rc => (vec![Strand::Reverse], "reverse strand"),
        };
        let counted = self.horizon.bases().map_or_else(
            || "to the end of the window".to_owned(),
            |horizon| format!("over {horizon} bases from the variant"),
        );
        let shared = match grid {
            1 => String::new(),
            grid => format!(", shared in cells of {grid} bases"),
        };
        let frame = Frame {
            context,
            horizon: self.horizon.bases(),
            grid: grid as usize,
            strands,
        };
        let relatives = if engine.has_relatives() {
            ", with relatives"
        } else {
            ""
        };
        let said = format!("windows of {context} bases{shared}, {counted}, {said}{relatives}");
        (frame, said)
    }
}

pub fn run(global: &Global, command: ScoreCommand) -> anyhow::Result<()> {
    global.start_pool();
    match command {
        ScoreCommand::Vcf(command) => vcf::run(global, command),
        ScoreCommand::Dms(command) => dms::run(global, &command),
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
