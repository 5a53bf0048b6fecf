//! `cistron eval`.

mod length;

use std::path::{Path, PathBuf};

use cistron_genome::corpus::{Corpus, Split};
use cistron_report::{Axis, Bar, BarPlot};
use cistron_score::Engine;
use cistron_score::lm::{self, LmOptions, LmReport, Slice};
use cistron_score::markov::Markov;
use clap::{Args, Subcommand};

use crate::commands::{saturate, score};
use crate::failure::Usage;
use crate::global::Global;
use crate::models::ScorerArg;
use crate::output;
use crate::progress::Progress;

/// What to evaluate.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Bits per base of genomes, beside Markov chains on the same bases
    Lm(Box<Lm>),
    /// Bits per base by position far beyond the trained length, effective remembrance, state sizes
    Length(length::Length),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron eval lm --model run/model --corpus corpus held_out.fna.gz
  cistron eval lm --model run/model --corpus corpus --gff ref.gff3.gz --json ref.fna.gz
  cistron eval lm --start 300000 --bases 409600 --context 1024 --json held_out/*.fna.gz

Genomes are read in windows, each from its beginning token; a window overlaps the one before by
--context bases, which count there alone. Only A, C, G and T count. With --corpus the Markov chains
are fitted, on both strands, to the training genomes of that corpus, as the model was; without it
they are fitted to each evaluated genome itself, which flatters them.")]
pub struct Lm {
    #[command(flatten)]
    model: ScorerArg,
    /// Genomes to read
    #[arg(required = true, value_name = "FASTA")]
    fasta: Vec<PathBuf>,
    /// Corpus whose training genomes the Markov chains are fitted to
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Annotation: also print bits per base by class (for one FASTA)
    #[arg(long, value_name = "GFF3")]
    gff: Option<PathBuf>,
    /// Bases a window [default: the model's training context, and twice --context at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    window: Option<u32>,
    /// Bases that each base is told from at least, where its contig has so many before it
    #[arg(long, value_name = "N", default_value_t = 0)]
    context: u32,
    /// Read from this base of each genome's longest contig on, counted from 0
    #[arg(long, value_name = "N")]
    start: Option<u64>,
    /// Read this many bases of each genome's longest contig, from --start on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    bases: Option<u64>,
    /// Read this part, counted from 1 (for one FASTA)
    #[arg(long, value_name = "CONTIG[:FROM-TO]", conflicts_with_all = ["start", "bases"])]
    region: Option<String>,
    /// Read about this many bases of each genome, in windows evenly spaced
    #[arg(long, value_name = "N")]
    max_bases: Option<u64>,
    /// Orders of the Markov chains
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "0,2,5,9", value_parser = clap::value_parser!(u8).range(0..=12))]
    markov: Vec<u8>,
    /// Also draw the figures as an SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace an existing plot
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, command: EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Lm(command) => lm(global, &command),
        EvalCommand::Length(command) => length::run(global, &command),
    }
}

fn lm(global: &Global, command: &Lm) -> anyhow::Result<()> {
    if command.gff.is_some() && command.fasta.len() > 1 {
        return Err(Usage("--gff goes with one FASTA".into()).into());
    }
    if command.region.is_some() && command.fasta.len() > 1 {
        return Err(
            Usage("--region goes with one FASTA; --start and --bases go with many".into()).into(),
        );
    }
    let least = command.context as usize;
    if let Some(window) = command.window
        && window <= command.context
    {
        let problem = format!("--window {window}: expected more bases than --context {least}");
        return Err(Usage(problem).into());
    }
    if let Some(plot) = &command.plot {
        output::claim_file(plot, command.force)?;
    }
    let (engine, model) = command.model.start(global, global.device()?, None)?;
    let window = match command.window {
        Some(window) => window as usize,
        None => context(None, &engine).max(2 * least),
    };
    let mut options = LmOptions {
        window,
        context: least,
        slice: match (command.start, command.bases) {
            (None, None) => Slice::All,
            (start, bases) => Slice::Longest {
                start: start.unwrap_or(0),
                bases,
            },
        },
        max_bases: command.max_bases,
    };
    let shared = command.corpus.as_ref().map(|folder| {
        let corpus = Corpus::open(folder)?;
        chains(&command.markov, |observe| {
            let mut bases = Vec::new();
            for (i, genome) in corpus.genomes().iter().enumerate() {
                if genome.split == Split::Train {
                    for contig in 0..genome.contigs.len() {
                        let contig = corpus.contig(i, contig);
                        contig.read(0..contig.len(), &mut bases)?;
                        observe(&bases);
                    }
                }
            }
            Ok(())
        })
    });
    let shared = shared.transpose()?;
    let fitted_on = if shared.is_some() {
        "training genomes of the corpus"
    } else {
        "this genome itself"
    };
    let mut reports = Vec::new();
    for path in &command.fasta {
        let (genome, annotation) = score::read_genome(path, command.gff.as_deref(), &[])?;
        if command.region.is_some() {
            let (contig, interval) = saturate::parts(&genome, command.region.as_deref())?[0];
            options.slice = Slice::Part {
                contig: contig.name.to_string(),
                start: interval.start(),
                end: interval.end(),
            };
        }
        let own;
        let baselines = match &shared {
            Some(shared) => shared,
            None => {
                own = chains(&command.markov, |observe| {
                    genome
                        .contigs
                        .iter()
                        .for_each(|contig| observe(&contig.bases));
                    Ok(())
                })?;
                &own
            }
        };
        let all = match &options.slice {
            Slice::Longest {
                bases: Some(bases), ..
            } => *bases,
            Slice::Part { start, end, .. } => end - start,
            _ => genome.total_len(),
        };
        let total = command.max_bases.map_or(all, |max| max.min(all));
        let mut progress = Progress::new(global, "eval lm", "bases", Some(total));
        let report = lm::evaluate(
            &engine,
            &genome,
            annotation.as_ref(),
            baselines,
            &options,
            &mut |done, _| progress.set(done),
        )?;
        let rate = progress.finish();
        tracing::info!("{}: {rate:.0} bases a second", path.display());
        if let (Some(wanted), Some(span)) = (command.bases, &report.slice)
            && span.end - span.start < wanted
        {
            let (found, contig) = (span.end - span.start, &span.contig);
            tracing::warn!(
                "{}: {contig} ends after {found} of the {wanted} bases of --bases",
                path.display()
            );
        }
        if !command.json {
            output::print(&table(&report, fitted_on))?;
        }
        reports.push(report);
    }
    if let Some(path) = &command.plot {
        cistron_report::save(path, &bars(&reports).svg()?)?;
    }
    if !command.json && reports.len() > 1 {
        output::print(&format!(
            "mean of {} genomes\t{:.4} bits per base\n",
            reports.len(),
            mean(&reports)
        ))?;
    }
    if command.json {
        output::print_json(&serde_json::json!({
            "model": model,
            "tool_version": env!("CARGO_PKG_VERSION"),
            "window": window,
            "context": least,
            "markov_fitted_on": fitted_on,
            "mean_bits_per_base": mean(&reports),
            "genomes": reports,
        }))?;
    }
    Ok(())
}

/// The window asked for, or the model's training context, or 8,192.
pub fn context(asked: Option<u32>, engine: &Engine) -> usize {
    match (asked, engine.trained_context()) {
        (Some(asked), _) => asked as usize,
        (None, 0) => 8192,
        (None, trained) => trained,
    }
}

fn chains(
    orders: &[u8],
    mut visit: impl FnMut(&mut dyn FnMut(&[u8])) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Markov>> {
    let mut chains: Vec<Markov> = orders
        .iter()
        .map(|&k| Markov::new(usize::from(k)))
        .collect();
    visit(&mut |bases| chains.iter_mut().for_each(|chain| chain.observe(bases)))?;
    Ok(chains)
}

/// Mean over genomes, whatever their sizes.
fn mean(reports: &[LmReport]) -> f64 {
    let sum: f64 = reports.iter().map(|report| report.all.bits_per_base).sum();
    sum / reports.len() as f64
}

/// The model and the Markov chains of every genome as bars.
fn bars(reports: &[LmReport]) -> BarPlot {
    let mut bars = Vec::new();
    for report in reports {
        let name = Path::new(&report.file)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        bars.push(Bar::subject(
            format!("model, {name}"),
            report.all.bits_per_base,
        ));
        for baseline in &report.baselines {
            let label = format!("Markov order {}, {name}", baseline.order);
            bars.push(Bar::baseline(label, baseline.bits_per_base));
        }
    }
    let values = bars.iter().map(|bar| bar.value);
    let low = values.clone().fold(2.0, f64::min);
    let high = values.fold(2.0, f64::max);
    BarPlot {
        title: "Bits per base: lower is better, 2 is no knowledge at all".into(),
        value: Axis::linear("bits per base (the axis does not start at zero)")
            .with_range((low - 0.05) * 0.995, high + 0.02),
        bars,
        decimals: 4,
    }
}

fn table(report: &LmReport, fitted_on: &str) -> String {
    let mut text = format!(
        "{}\t{} bases in {} windows{}\nmodel\t{:.4} bits per base\n",
        report.file,
        report.all.bases,
        report.windows,
        report.slice.as_ref().map_or_else(String::new, |span| {
            format!(", {}:{}-{}", span.contig, span.start + 1, span.end)
        }),
        report.all.bits_per_base
    );
    for baseline in &report.baselines {
        let (order, bits) = (baseline.order, baseline.bits_per_base);
        text += &format!("markov order {order}\t{bits:.4} bits per base, fitted on {fitted_on}\n");
    }
    for (class, bits) in &report.by_class {
        text += &format!(
            "{class}\t{:.4} bits per base, {} bases\n",
            bits.bits_per_base, bits.bases
        );
    }
    for (i, stage) in report.stages.iter().enumerate() {
        text += &format!(
            "stage {}\t{:.4} of tokens start a chunk, mean probability {:.4}, {:.2} bases a chunk\n",
            i + 1,
            stage.selected,
            stage.mean_probability,
            stage.bases_per_chunk
        );
    }
    text
}
