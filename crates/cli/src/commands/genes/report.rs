//! Figures of essentiality scores beside baselines.

use anyhow::Context;
use cistron_score::metrics::{Auroc, auroc, average_precision, logistic, precision_interval};
use serde_json::{Map, Value, json};

use super::supervised::{HeldOut, held_out};
use super::{Genes, Scored};
use crate::output;

/// One score of one genome.
#[derive(Clone, Copy)]
struct Measure {
    area: Auroc,
    auprc: f64,
    auprc_ci: Option<[f64; 2]>,
}

/// All of one genome.
struct OneGenome<'a> {
    name: &'a str,
    count: usize,
    positives: usize,
    /// The score first, then baselines, then what is supervised.
    rows: Vec<(&'static str, Measure)>,
}

const SCORE: &str = "score";
const BASELINES: [&str; 4] = ["length", "gc", "length_gc", "length_gc_score"];
const SUPERVISED: [&str; 2] = ["supervised", "supervised_length_gc"];

/// Prints the figures of every genome, and their means where there are several.
pub fn print(command: &Genes, model: &str, scored: &[Scored]) -> anyhow::Result<()> {
    let held_out = command.supervised.then(|| held_out(scored));
    let genomes = scored
        .iter()
        .enumerate()
        .map(|(number, genome)| measure(number, genome, held_out.as_ref(), command.seed))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let folds = held_out.map(|held_out| held_out.folds);
    match command.json {
        true => output::print_json(&as_json(command, model, &genomes, folds)),
        false => output::print(&as_text(&genomes, folds)),
    }
}

fn measure<'a>(
    number: usize,
    genome: &'a Scored,
    held_out: Option<&HeldOut>,
    seed: u64,
) -> anyhow::Result<OneGenome<'a>> {
    let positive = genome.positive.as_deref().context("there are labels")?;
    let length: Vec<f64> = genome
        .genes
        .iter()
        .map(|g| (g.length as f64).ln())
        .collect();
    let gc: Vec<f64> = genome.genes.iter().map(|g| g.gc).collect();
    let scores = &genome.scores;
    let of = |values: &[f64]| -> anyhow::Result<Measure> {
        let areas = auroc(values, positive).zip(average_precision(values, positive));
        let (area, auprc) = areas.with_context(|| {
            format!(
                "{}: fewer than two essential or two other genes are left; nothing to measure",
                genome.name
            )
        })?;
        Ok(Measure {
            area,
            auprc,
            auprc_ci: precision_interval(values, positive, seed),
        })
    };
    let fitted = |features: &[&[f64]]| {
        let features: Vec<Vec<f64>> = features.iter().map(|f| f.to_vec()).collect();
        logistic(&features, positive)
    };
    let mut rows = vec![
        (SCORE, of(scores)?),
        (BASELINES[0], of(&fitted(&[&length]))?),
        (BASELINES[1], of(&fitted(&[&gc]))?),
        (BASELINES[2], of(&fitted(&[&length, &gc]))?),
        (BASELINES[3], of(&fitted(&[&length, &gc, scores]))?),
    ];
    if let Some(held_out) = held_out {
        rows.push((SUPERVISED[0], of(&held_out.vectors[number])?));
        rows.push((SUPERVISED[1], of(&held_out.length_gc[number])?));
    }
    Ok(OneGenome {
        name: &genome.name,
        count: positive.len(),
        positives: positive.iter().filter(|p| **p).count(),
        rows,
    })
}

impl OneGenome<'_> {
    fn get(&self, name: &str) -> Option<Measure> {
        let found = self.rows.iter().find(|(known, _)| *known == name);
        found.map(|(_, measure)| *measure)
    }

    /// What the score adds to length and GC.
    fn increment(&self) -> Option<f64> {
        Some(self.get(BASELINES[3])?.area.auroc - self.get(BASELINES[2])?.area.auroc)
    }

    fn json(&self) -> Value {
        let mut value = Map::new();
        value.insert("name".into(), json!(self.name));
        if let Some(score) = self.get(SCORE) {
            value.insert("auroc".into(), json!(score.area.auroc));
            value.insert("ci".into(), json!(score.area.ci));
            value.insert("auprc".into(), json!(score.auprc));
            value.insert("auprc_ci".into(), json!(score.auprc_ci));
        }
        value.insert("n".into(), json!(self.count));
        value.insert("positives".into(), json!(self.positives));
        let part = |names: &[&'static str]| -> Map<String, Value> {
            let measures = names
                .iter()
                .filter_map(|name| Some((name, self.get(name)?)));
            measures
                .map(|(name, m)| {
                    let value = json!({
                        "auroc": m.area.auroc, "ci": m.area.ci,
                        "auprc": m.auprc, "auprc_ci": m.auprc_ci,
                    });
                    ((*name).to_owned(), value)
                })
                .collect()
        };
        value.insert("baselines".into(), json!(part(&BASELINES)));
        value.insert("increment".into(), json!(self.increment()));
        let supervised = part(&SUPERVISED);
        if !supervised.is_empty() {
            value.insert("supervised".into(), json!(supervised));
        }
        Value::Object(value)
    }
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values.collect();
    let values = values?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

fn macro_mean(genomes: &[OneGenome<'_>], name: &str, of: fn(Measure) -> f64) -> Option<f64> {
    mean(genomes.iter().map(|genome| genome.get(name).map(of)))
}

fn as_json(command: &Genes, model: &str, genomes: &[OneGenome<'_>], folds: Option<&str>) -> Value {
    let mut value = match genomes {
        [only] => match only.json() {
            Value::Object(value) => value,
            _ => Map::new(),
        },
        _ => {
            let mut value = Map::new();
            let area = |m: Measure| m.area.auroc;
            let precision = |m: Measure| m.auprc;
            value.insert("auroc".into(), json!(macro_mean(genomes, SCORE, area)));
            value.insert("auprc".into(), json!(macro_mean(genomes, SCORE, precision)));
            let total = |of: fn(&OneGenome<'_>) -> usize| genomes.iter().map(of).sum::<usize>();
            value.insert("n".into(), json!(total(|g| g.count)));
            value.insert("positives".into(), json!(total(|g| g.positives)));
            let part = |names: &[&str]| -> Map<String, Value> {
                names
                    .iter()
                    .filter(|name| genomes[0].get(name).is_some())
                    .map(|name| {
                        let value = json!({
                            "auroc": macro_mean(genomes, name, area),
                            "auprc": macro_mean(genomes, name, precision),
                        });
                        ((*name).to_owned(), value)
                    })
                    .collect()
            };
            value.insert("baselines".into(), json!(part(&BASELINES)));
            let increment = mean(genomes.iter().map(OneGenome::increment));
            value.insert("increment".into(), json!(increment));
            let supervised = part(&SUPERVISED);
            if !supervised.is_empty() {
                value.insert("supervised".into(), json!(supervised));
            }
            let each: Vec<Value> = genomes.iter().map(OneGenome::json).collect();
            value.insert("genomes".into(), json!(each));
            value
        }
    };
    value.insert("model".into(), json!(model));
    value.insert("tool_version".into(), json!(env!("CARGO_PKG_VERSION")));
    value.insert("window".into(), json!(command.window));
    value.insert("horizon".into(), json!(command.horizon.bases()));
    value.insert(
        "knockout".into(),
        json!(format!("{:?}", command.knockout).to_lowercase()),
    );
    if let Some(folds) = folds {
        value.insert("held_out".into(), json!(folds));
    }
    Value::Object(value)
}

fn as_text(genomes: &[OneGenome<'_>], folds: Option<&str>) -> String {
    let mut text = String::new();
    for genome in genomes {
        if genomes.len() > 1 {
            text += &format!("# {}\n", genome.name);
        }
        text += "of\tauroc\tlow\thigh\tauprc\tauprc_low\tauprc_high\n";
        for (name, m) in &genome.rows {
            let [low, high] = m.area.ci;
            let number = |value: Option<f64>| value.map_or("NA".to_owned(), |v| format!("{v:.4}"));
            text += &format!(
                "{name}\t{:.4}\t{low:.4}\t{high:.4}\t{:.4}\t{}\t{}\n",
                m.area.auroc,
                m.auprc,
                number(m.auprc_ci.map(|ci| ci[0])),
                number(m.auprc_ci.map(|ci| ci[1])),
            );
        }
        text += &format!("# {} genes, {} essential\n", genome.count, genome.positives);
    }
    if let [first, _, ..] = genomes {
        text += "# mean over genomes\nof\tauroc\tauprc\n";
        for (name, _) in &first.rows {
            let of = |f: fn(Measure) -> f64| macro_mean(genomes, name, f).unwrap_or(f64::NAN);
            let (area, precision) = (of(|m| m.area.auroc), of(|m| m.auprc));
            text += &format!("{name}\t{area:.4}\t{precision:.4}\n");
        }
    }
    if let Some(folds) = folds {
        text += &format!("# supervised: fitted to other {folds}\n");
    }
    text
}
