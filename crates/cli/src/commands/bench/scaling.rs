//! `cistron bench scaling`.

use std::path::PathBuf;

use cistron_bench::{Ladder, RungResult, SeriesFit, climb, fits};
use cistron_report::{Axis, LinePlot, Series};
use cistron_train::{PretrainOptions, Resume};
use clap::Args;
use serde_json::json;

use super::short;
use crate::commands::command_line;
use crate::global::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron bench scaling --ladder ladder.toml --corpus corpus --out ladder

A ladder names run configurations and what each spends:

  flops = 1e15                 # or tokens = 2e8, for every rung that does not say otherwise
  [[rung]]
  name = \"h-net-1\"
  series = \"h-net\"             # the curve it belongs to
  config = \"h-net.toml\"        # relative to the ladder
  set = [\"model.d_model=[64, 96]\"]
  flops = 3e14

Each rung trains in its own run folder under --out, and goes on where it was when the command is
given again. Its loss is that on the validation genomes.")]
pub struct Scaling {
    /// Ladder of runs
    #[arg(long, value_name = "FILE.toml")]
    ladder: PathBuf,
    /// Corpus to train on, with validation genomes
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
    /// Folder for the runs, scaling.json and scaling.svg
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(global: &Global, command: &Scaling) -> anyhow::Result<()> {
    let ladder = Ladder::read(&command.ladder)?;
    for rung in &ladder.rung {
        cistron_bench::settings(rung)?;
    }
    let device = global.device()?;
    std::fs::create_dir_all(&command.out)
        .map_err(|error| anyhow::anyhow!("{}: {error}", command.out.display()))?;
    output::print("rung\tseries\tparameters\ttokens\toperations\tbits per base\n")?;
    let mut results: Vec<RungResult> = Vec::new();
    for rung in &ladder.rung {
        let options = PretrainOptions {
            config: rung.config.clone(),
            sets: Vec::new(),
            corpus: command.corpus.clone(),
            out: command.out.join(&rung.name),
            resume: Resume::Auto,
            force: false,
            device,
            quiet: !global.shows_bar(),
            command: command_line(),
            stop_after: None,
        };
        let Some(result) = climb(rung, &options)? else {
            anyhow::bail!(
                "stopped at rung {}; give the command again to go on",
                rung.name
            );
        };
        output::print(&format!(
            "{}\t{}\t{}\t{}\t{}\t{:.4}\n",
            result.name,
            result.series,
            short(result.parameters as f64),
            short(result.tokens as f64),
            scientific(result.flops),
            result.bits_per_base
        ))?;
        results.push(result);
        // After every rung, so that a long ladder can be looked at.
        let fits = fits(&results);
        let report = json!({
            "measured": "scaling",
            "tool_version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
            "device": format!("{device:?}"),
            "loss": "bits per base on the validation genomes",
            "rungs": results,
            "fits": fits,
        });
        let path = command.out.join("scaling.json");
        super::write(&path, &serde_json::to_string_pretty(&report)?)?;
        let path = command.out.join("scaling.svg");
        cistron_report::save(&path, &plot(&results, &fits).svg()?)?;
    }
    for SeriesFit { series, fit } in fits(&results) {
        let name = if series.is_empty() { "all" } else { &series };
        output::print(&match fit {
            Some(fit) => format!(
                "fit {name}\tbits = {:.4} + {:.4e} C^-{:.4}, rms {:.4}\n",
                fit.floor, fit.scale, fit.exponent, fit.rms
            ),
            None => format!("fit {name}\tneeds three amounts of compute\n"),
        })?;
    }
    Ok(())
}

fn scientific(value: f64) -> String {
    format!("{value:.3e}")
}

/// Losses over compute: points of each series, and its curve.
fn plot(results: &[RungResult], fits: &[SeriesFit]) -> LinePlot {
    let mut lines = Vec::new();
    for SeriesFit { series, fit } in fits {
        let own = results.iter().filter(|result| result.series == *series);
        let mut points: Vec<(f64, f64)> = own.map(|r| (r.flops, r.bits_per_base)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = if series.is_empty() { "runs" } else { series };
        let ends = (points[0].0, points[points.len() - 1].0);
        lines.push(Series::new(name, points));
        if let Some(fit) = fit {
            let step = (ends.1 / ends.0).ln() / 60.0;
            let at = |i: i32| ends.0 * (step * f64::from(i)).exp();
            let curve = (0..=60).map(|i| (at(i), fit.at(at(i))));
            let law = format!("{name}: a + b C^-{:.3}", fit.exponent);
            lines.push(Series::new(law, curve).beside());
        }
    }
    LinePlot {
        title: "Loss over compute".into(),
        x: Axis::log("floating-point operations of training"),
        y: Axis::linear("bits per base, validation genomes"),
        series: lines,
        levels: Vec::new(),
    }
}
