//! Figures of a table: the score beside baselines.

use cistron_genome::fasta::Genome;
use cistron_score::dms::Placed;
use cistron_score::dms::baselines::{self, Baselines};
use cistron_score::markov::Markov;
use cistron_score::metrics::{Ranking, rank};
use cistron_variant::dms::edits::Edit;
use cistron_variant::dms::table::Table;
use serde_json::json;

use super::wild::Wild;
use super::{Dms, Scored};
use crate::output;

/// A baseline with a value a row; rows without a score have one that means nothing.
pub struct Measured {
    /// Its name in tables and JSON.
    pub name: &'static str,
    /// Higher means fitter.
    pub values: Vec<f64>,
}

/// The baselines of every row.
pub fn baselines(
    command: &Dms,
    wild: &Wild,
    placed: Option<&Placed>,
    measured: &Table,
    scored: &[Scored],
) -> anyhow::Result<Vec<Measured>> {
    let mut chains = [Markov::new(5), Markov::new(9)];
    let mut observe = |bases: &[u8]| chains.iter_mut().for_each(|chain| chain.observe(bases));
    let fitted = if !command.background.is_empty() {
        for path in &command.background {
            let genome = Genome::read(path)?;
            genome
                .contigs
                .iter()
                .for_each(|contig| observe(&contig.bases));
        }
        "--background".to_owned()
    } else if let Some(genome) = &wild.genome {
        genome
            .contigs
            .iter()
            .for_each(|contig| observe(&contig.bases));
        "--fasta".to_owned()
    } else if let Some(target) = &wild.target {
        observe(&target.cds);
        "the gene alone; name a genome with --background".to_owned()
    } else {
        measured.rows.iter().take(1000).for_each(|row| {
            observe(row.mutant.to_ascii_uppercase().as_bytes());
        });
        "the sequences of the table; name a genome with --background".to_owned()
    };
    tracing::info!("Markov chains of orders 5 and 9 are fitted to {fitted}");
    let column = |name, of: &dyn Fn(usize) -> f64| Measured {
        name,
        values: (0..scored.len()).map(of).collect(),
    };
    let ways = |i: usize| scored[i].edits.as_slice();
    let Some(target) = &wild.target else {
        let text = |i: usize| measured.rows[i].mutant.to_ascii_uppercase().into_bytes();
        let gc = |i: usize| {
            let bases = text(i);
            let count = bases.iter().filter(|base| b"GC".contains(base)).count();
            count as f64 / bases.len().max(1) as f64
        };
        let likelihood = |chain: &Markov, i: usize| match placed {
            Some(placed) => ways(i)
                .first()
                .map_or(0.0, |edit| markov(chain, placed, edit)),
            None => -chain.bits(&text(i), 0).0,
        };
        let mut columns = vec![column("gc", &gc)];
        if placed.is_some() {
            columns.push(column("base_changes", &|i| {
                ways(i)
                    .first()
                    .map_or(0.0, |edit| -(edit.changed_bases() as f64))
            }));
        }
        columns.push(column("markov5", &|i| likelihood(&chains[0], i)));
        columns.push(column("markov9", &|i| likelihood(&chains[1], i)));
        return Ok(columns);
    };
    let highest = |i: usize, of: &dyn Fn(&Edit) -> f64| {
        ways(i).iter().map(of).fold(f64::NEG_INFINITY, f64::max)
    };
    let counted = |of: fn(Baselines) -> f64| {
        let code = target.code;
        move |i: usize| highest(i, &|edit| of(Baselines::of(edit, code)))
    };
    let chain = |chain: &Markov, i: usize| {
        let Some(placed) = placed else { return 0.0 };
        let values: Vec<f64> = ways(i)
            .iter()
            .map(|edit| markov(chain, placed, edit))
            .collect();
        let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = values.iter().map(|value| (value - top).exp()).sum();
        top + (sum / values.len() as f64).ln()
    };
    Ok(vec![
        column("blosum62", &counted(|b| b.blosum62)),
        column("codon_changes", &counted(|b| b.codons)),
        column("base_changes", &counted(|b| b.bases)),
        column("hydrophobicity", &counted(|b| b.hydrophobicity)),
        column("markov5", &|i| chain(&chains[0], i)),
        column("markov9", &|i| chain(&chains[1], i)),
    ])
}

fn markov(chain: &Markov, placed: &Placed, edit: &Edit) -> f64 {
    baselines::markov(chain, &placed.contig.bases, placed.offset, edit)
}

/// The figures.
pub struct Report<'a> {
    command: &'a Dms,
    model: &'a str,
    wild: &'a Wild,
    rows: usize,
    count: usize,
    classes: String,
    score: Ranking,
    baselines: Vec<(&'static str, Ranking)>,
}

impl<'a> Report<'a> {
    /// Measures the rows that have a score and a value; none where those are fewer than three.
    pub fn of(
        command: &'a Dms,
        model: &'a str,
        wild: &'a Wild,
        measured: &Table,
        scored: &[Scored],
        baselines: &[Measured],
    ) -> Option<Self> {
        let kept: Vec<usize> = (0..scored.len())
            .filter(|&i| scored[i].score.is_ok() && measured.rows[i].score.is_some())
            .collect();
        if kept.len() < 3 {
            return None;
        }
        let values: Vec<f64> = kept
            .iter()
            .filter_map(|&i| measured.rows[i].score)
            .collect();
        let bins: Option<Vec<bool>> = kept.iter().map(|&i| measured.rows[i].bin).collect();
        let cut = rank::median(&values)?;
        let (fit, classes) = match bins {
            Some(bins) => (bins, measured.bin.clone().unwrap_or_default()),
            None => (
                values.iter().map(|value| *value >= cut).collect(),
                format!("'{}' at or above its median", measured.score),
            ),
        };
        let pick =
            |of: &dyn Fn(usize) -> f64| -> Vec<f64> { kept.iter().map(|&i| of(i)).collect() };
        let ranked = |scores: &[f64]| Ranking::of(scores, &values, &fit, command.seed);
        Some(Self {
            command,
            model,
            wild,
            rows: scored.len(),
            count: kept.len(),
            classes,
            score: ranked(&pick(&|i| scored[i].score.as_ref().copied().unwrap_or(0.0))),
            baselines: baselines
                .iter()
                .map(|b| (b.name, ranked(&pick(&|i| b.values[i]))))
                .collect(),
        })
    }

    /// Prints them as text, or as JSON.
    pub fn print(&self, as_json: bool) -> anyhow::Result<()> {
        match as_json {
            true => output::print_json(&self.json()),
            false => output::print(&self.text()),
        }
    }

    fn json(&self) -> serde_json::Value {
        let baselines: serde_json::Map<String, serde_json::Value> = self
            .baselines
            .iter()
            .map(|(name, ranking)| ((*name).to_owned(), json!(ranking)))
            .collect();
        json!({
            "model": self.model,
            "tool_version": env!("CARGO_PKG_VERSION"),
            "wild_type": self.wild.said,
            "back_translated": self.wild.target.as_ref().is_some_and(|t| t.back_translated),
            "codon": format!("{:?}", self.command.codon).to_lowercase(),
            "rows": self.rows,
            "n": self.count,
            "classes": self.classes,
            "spearman": self.score.spearman,
            "ci": self.score.ci,
            "auroc": self.score.auroc,
            "auroc_ci": self.score.auroc_ci,
            "mcc": self.score.mcc,
            "ndcg": self.score.ndcg,
            "top_decile_recall": self.score.top_decile_recall,
            "baselines": baselines,
        })
    }

    fn text(&self) -> String {
        let mut text = "of\tspearman\tlow\thigh\tauroc\tmcc\tndcg\ttop_decile_recall\n".to_owned();
        let score = std::iter::once(("score", &self.score));
        let baselines = self
            .baselines
            .iter()
            .map(|(name, ranking)| (*name, ranking));
        for (name, ranking) in score.chain(baselines) {
            let number = |value: Option<f64>| value.map_or("NA".to_owned(), |v| format!("{v:.4}"));
            let fields = [
                ranking.spearman,
                ranking.ci.map(|ci| ci[0]),
                ranking.ci.map(|ci| ci[1]),
                ranking.auroc,
                ranking.mcc,
                ranking.ndcg,
                ranking.top_decile_recall,
            ];
            text += name;
            for value in fields {
                text += "\t";
                text += &number(value);
            }
            text += "\n";
        }
        text + &format!(
            "# {} of {} rows, classes: {}\n",
            self.count, self.rows, self.classes
        )
    }
}
