//! `cistron eval length`.

use std::path::PathBuf;

use cistron_genome::fasta::Genome;
use cistron_report::{Axis, LinePlot, Series};
use cistron_score::Engine;
use cistron_score::length::{self, LengthOptions, LengthReport};
use clap::Args;

use super::context;
use crate::failure::Usage;
use crate::global::Global;
use crate::models::{InferenceArg, Loaded};
use crate::output;
use crate::progress::Progress;
use crate::stop;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron eval length --model run/model --plot length.svg ref.fna.gz
  cistron eval length --model tbptt/model --against plain/model --times 16 --json ref.fna.gz

Sequences of 64 times the trained length are read from the longest contig with the state carried
on, and the same bases in windows of the trained length. A model that loses nothing over length
does as well in the first way as in the second.")]
pub struct Length {
    #[command(flatten)]
    model: InferenceArg,
    /// Genomes to read
    #[arg(required = true, value_name = "FASTA")]
    fasta: Vec<PathBuf>,
    /// Another model, read and drawn beside the first
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Bases that the model was trained on at a time [default: as its config.json says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    trained: Option<u32>,
    /// How many times the trained length sequences are; a power of two
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Sequences of each genome, evenly spaced over its longest contig
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    sequences: u32,
    /// Also draw bits per base by position as an SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace an existing plot
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, command: &Length) -> anyhow::Result<()> {
    if !command.times.is_power_of_two() {
        let problem = format!("--times {}: expected a power of two", command.times);
        return Err(Usage(problem).into());
    }
    if let Some(plot) = &command.plot {
        output::claim_file(plot, command.force)?;
    }
    let device = global.device()?;
    let mut models = vec![command.model.load(device)?];
    if let Some(other) = &command.against {
        models.push(command.model.load_other(other, device)?);
    }
    let mut results = Vec::new();
    for loaded in &models {
        results.push(read(global, command, loaded)?);
    }
    if let Some(path) = &command.plot {
        let named = models.iter().zip(&results).flat_map(|(loaded, reports)| {
            let model = loaded.provenance.split(';').next().unwrap_or_default();
            reports.iter().map(move |report| (model.to_owned(), report))
        });
        let several = (models.len() > 1, command.fasta.len() > 1);
        cistron_report::save(path, &plot(&named.collect::<Vec<_>>(), several).svg()?)?;
    }
    if command.json {
        let models: Vec<serde_json::Value> = models
            .iter()
            .zip(&results)
            .map(|(loaded, genomes)| {
                serde_json::json!({ "model": loaded.provenance, "genomes": genomes })
            })
            .collect();
        output::print_json(&serde_json::json!({
            "tool_version": env!("CARGO_PKG_VERSION"),
            "models": models,
        }))?;
    }
    Ok(())
}

fn read(global: &Global, command: &Length, loaded: &Loaded) -> anyhow::Result<Vec<LengthReport>> {
    let engine = Engine::new(&loaded.model, global.threads())?.with_stop(stop::flag());
    let options = LengthOptions {
        trained: context(command.trained, &engine),
        times: command.times as usize,
        sequences: command.sequences as usize,
    };
    let mut reports = Vec::new();
    for path in &command.fasta {
        let genome = Genome::read(path)?;
        let total = u64::from(command.sequences);
        let mut progress = Progress::new(global, "eval length", "sequences", Some(total));
        let report = length::evaluate(&engine, &genome, &options, &mut |done, _| {
            progress.set(done);
        })?;
        progress.finish();
        if report.length < options.trained * options.times {
            tracing::warn!(
                "{}: the longest contig allows sequences of {} bases and not of {} times {}",
                path.display(),
                report.length,
                options.times,
                options.trained
            );
        }
        if !command.json {
            output::print(&table(loaded, &report))?;
        }
        reports.push(report);
    }
    Ok(reports)
}

fn table(loaded: &Loaded, report: &LengthReport) -> String {
    let mut text = format!(
        "{}\t{} sequences of {} bases\nmodel\t{}, trained on {} bases at a time\n",
        report.file, report.sequences, report.length, loaded.provenance, report.trained
    );
    text += "positions\tbits per base\tin fresh windows\n";
    for bin in &report.positions {
        text += &format!(
            "{}-{}\t{:.4}\t{:.4}\n",
            bin.from + 1,
            bin.to,
            bin.bits_per_base,
            bin.fresh_bits_per_base
        );
    }
    text += &format!(
        "degradation\t{:+.4} bits per base at the end\n",
        report.degradation
    );
    text += "bases seen\teffective remembrance of those before\n";
    for point in &report.remembrance {
        text += &format!("{}\t{:.4}\n", point.seen, point.distance);
    }
    text += "position\tlargest mean norm of a layer's states\n";
    for norms in &report.norms {
        let largest = norms.layers.iter().max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((layer, norm)) = largest {
            text += &format!("{}\t{norm:.2} in {layer}\n", norms.position);
        }
    }
    text
}

/// A line for each model and genome, beside its fresh windows.
fn plot(reports: &[(String, &LengthReport)], several: (bool, bool)) -> LinePlot {
    let mut series = Vec::new();
    for (model, report) in reports {
        let mut of = Vec::new();
        of.extend(several.0.then(|| model.clone()));
        of.extend(several.1.then(|| report.name.clone()));
        let of = match of.is_empty() {
            true => String::new(),
            false => format!(", {}", of.join(", ")),
        };
        let points = |pick: fn(&length::Bin) -> f64| -> Vec<(f64, f64)> {
            let middle = |bin: &length::Bin| ((bin.from.max(1) * bin.to) as f64).sqrt();
            let bins = report.positions.iter().filter(|bin| bin.bases > 0);
            bins.map(|bin| (middle(bin), pick(bin))).collect()
        };
        series.push(Series::new(
            format!("state carried on{of}"),
            points(|bin| bin.bits_per_base),
        ));
        let fresh = points(|bin| bin.fresh_bits_per_base);
        series.push(Series::new(format!("fresh windows{of}"), fresh).beside());
    }
    let trained = reports.first().map_or(0, |(_, report)| report.trained);
    LinePlot {
        title: format!("Bits per base by position; trained on {trained} bases at a time"),
        x: Axis::log("position in the sequence, bases"),
        y: Axis::linear("bits per base"),
        series,
        levels: Vec::new(),
    }
}
