//! A ladder of training runs, and how the loss falls with compute.

use std::path::{Path, PathBuf};

use cistron_train::loss::StageRatio;
use cistron_train::metrics::{self, Record};
use cistron_train::{Outcome, PretrainOptions, RunConfig, flops};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::fit::Fit;

/// A ladder, as its TOML file has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ladder {
    /// Floating-point operations of each run that does not say otherwise.
    pub flops: Option<f64>,
    /// Tokens of each run that does not say otherwise.
    pub tokens: Option<f64>,
    /// `key=value` arguments over every configuration.
    pub set: Vec<String>,
    /// The runs.
    pub rung: Vec<Rung>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Its name, and that of its run folder.
    pub name: String,
    /// The curve it belongs to.
    #[serde(default)]
    pub series: String,
    /// The run configuration, relative to the ladder.
    pub config: PathBuf,
    /// `key=value` arguments over it.
    #[serde(default)]
    pub set: Vec<String>,
    /// Floating-point operations to spend.
    pub flops: Option<f64>,
    /// Tokens to train on.
    pub tokens: Option<f64>,
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RungResult {
    /// Its name.
    pub name: String,
    /// The curve it belongs to.
    pub series: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Steps taken.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Floating-point operations, forwards and backwards, at the numbers of chunks that were
    /// made.
    pub flops: f64,
    /// Bits per base on the validation genomes, at the end.
    pub bits_per_base: f64,
    /// F and G of each routed stage there.
    pub stages: Vec<StageRatio>,
    /// Seconds of training.
    pub seconds: f64,
}

/// The fit of one series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesFit {
    /// Its name.
    pub series: String,
    /// The curve; none for fewer than three amounts of compute.
    pub fit: Option<Fit>,
}

impl Ladder {
    /// Reads a ladder.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no ladder, has no run or two of one name, or a run has
    /// neither operations nor tokens.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let fail = |problem: String| BenchError::Setting(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let mut ladder: Self =
            toml::from_str(&text).map_err(|error| fail(format!("not a ladder: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if ladder.rung.is_empty() {
            return Err(fail("no [[rung]]: expected one at least".into()));
        }
        let names: std::collections::BTreeSet<&str> =
            ladder.rung.iter().map(|rung| rung.name.as_str()).collect();
        if names.len() < ladder.rung.len() {
            return Err(fail("two rungs of one name: give each its own".into()));
        }
        for rung in &mut ladder.rung {
            rung.config = folder.join(&rung.config);
            if rung.flops.is_none() && rung.tokens.is_none() {
                (rung.flops, rung.tokens) = (ladder.flops, ladder.tokens);
            }
            let given = [rung.flops, rung.tokens];
            let good = given.iter().flatten().all(|n| *n > 0.0 && n.is_finite());
            if given.iter().flatten().count() != 1 || !good {
                let name = &rung.name;
                return Err(fail(format!(
                    "rung {name:?}: expected either flops or tokens, more than 0"
                )));
            }
            rung.set.splice(0..0, ladder.set.iter().cloned());
        }
        Ok(ladder)
    }
}

/// Settings of a run that spends what a rung says: its number of steps, and a warm-up of the
/// same share of them as in its configuration.
///
/// # Errors
///
/// The configuration is wrong.
pub fn settings(rung: &Rung) -> Result<Vec<String>, BenchError> {
    let config = RunConfig::load(&rung.config, &rung.set)?;
    let length = config.data.length;
    let per_token = 3.0 * flops::forward(&config.model, length) / length as f64;
    let tokens = rung
        .tokens
        .or(rung.flops.map(|flops| flops / per_token))
        .unwrap_or_default();
    let steps = (tokens / config.tokens_per_step() as f64).ceil().max(1.0) as u64;
    let share = |of: u64| (of as f64 * steps as f64 / config.schedule.steps as f64) as u64;
    let mut sets = rung.set.clone();
    sets.push(format!("schedule.steps={steps}"));
    sets.push(format!(
        "schedule.warmup_steps={}",
        share(config.schedule.warmup_steps).min(steps)
    ));
    sets.push(format!(
        "schedule.decay_steps={}",
        share(config.schedule.decay_steps).min(steps)
    ));
    Ok(sets)
}

/// Trains one rung, or goes on with it; `options` have everything but configuration and
/// settings. None when a signal ended it.
///
/// # Errors
///
/// The run fails, or has not been evaluated.
pub fn climb(rung: &Rung, options: &PretrainOptions) -> Result<Option<RungResult>, BenchError> {
    let options = PretrainOptions {
        config: rung.config.clone(),
        sets: settings(rung)?,
        ..options.clone()
    };
    let plan = cistron_train::plan(&options)?;
    let Outcome::Finished { step } = cistron_train::pretrain(&options)? else {
        return Ok(None);
    };
    let records = metrics::read(&options.out.join("metrics.jsonl"))?;
    let train = records.iter().rev().find_map(|record| match record {
        Record::Train(record) => Some(record),
        Record::Eval(_) => None,
    });
    let eval = records.iter().rev().find_map(|record| match record {
        Record::Eval(record) => Some(record),
        Record::Train(_) => None,
    });
    let (Some(train), Some(eval)) = (train, eval) else {
        return Err(BenchError::Setting(format!(
            "{}: no evaluation; build the corpus with validation genomes (--val)",
            options.out.display()
        )));
    };
    Ok(Some(RungResult {
        name: rung.name.clone(),
        series: rung.series.clone(),
        parameters: plan.parameters,
        steps: step,
        tokens: train.tokens,
        flops: train.flops,
        bits_per_base: eval.bits_per_base,
        stages: eval.stages.clone(),
        seconds: train.seconds,
    }))
}

/// The curve of each series, in the order of their first runs.
pub fn fits(results: &[RungResult]) -> Vec<SeriesFit> {
    let mut series: Vec<&str> = Vec::new();
    for result in results {
        if !series.contains(&result.series.as_str()) {
            series.push(&result.series);
        }
    }
    let fit = |name: &str| {
        let own = results.iter().filter(|result| result.series == name);
        let points: Vec<(f64, f64)> = own.map(|r| (r.flops, r.bits_per_base)).collect();
        SeriesFit {
            series: name.to_owned(),
            fit: Fit::of(&points),
        }
    };
    series.into_iter().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ladder, String> {
        let folder = std::env::temp_dir().join(format!("ladder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.toml", text.len()));
        std::fs::write(&path, text).unwrap();
        Ladder::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn rungs_inherit_and_override() {
        let text = r#"
            flops = 1e12
            set = ["train.seed=3"]
            [[rung]]
            name = "a"
            config = "a.toml"
            [[rung]]
            name = "b"
            series = "t"
            config = "b.toml"
            tokens = 5000
            set = ["optimizer.lr=1e-3"]
        "#;
        let ladder = read(text).unwrap();
        assert_eq!(ladder.rung[0].flops, Some(1e12));
        assert_eq!(
            (ladder.rung[1].flops, ladder.rung[1].tokens),
            (None, Some(5000.0))
        );
        assert_eq!(ladder.rung[1].set, ["train.seed=3", "optimizer.lr=1e-3"]);
        assert!(ladder.rung[0].config.ends_with("a.toml"));
    }

    #[test]
    fn wrong_ladders_say_what_is_wrong() {
        for (text, what) in [
            ("flops = 1\n", "no [[rung]]"),
            ("[[rung]]\nname='a'\nconfig='a'\n", "either flops or tokens"),
            ("[[rung]]\nname='a'\nconfig='a'\nflop=1\n", "unknown field"),
            (
                "tokens=9\n[[rung]]\nname='a'\nconfig='a'\n[[rung]]\nname='a'\nconfig='b'\n",
                "two rungs of one name",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
