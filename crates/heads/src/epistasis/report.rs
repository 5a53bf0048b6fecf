//! Epistasis as a table, figures and plots.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use cistron_report::{Axis, Bar, BarPlot, Edge, HeatMap, NetworkPlot, ScatterPlot, Series, save};
use serde_json::{Value, json};

use super::{Epistasis, Orders, Pair};
use crate::alphabet::Alphabet;
use crate::error::HeadError;
use crate::metrics::mean;
use crate::tables::push;

/// Connections drawn at most.
const EDGES: usize = 60;

/// How positions and substitutions are called.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The letters.
    pub alphabet: Alphabet,
    /// The wild type.
    pub wild_type: &'a [u8],
    /// Number of its first letter.
    pub first: i64,
}

impl Names<'_> {
    /// A position with its letter in the wild type.
    pub fn position(&self, position: usize) -> String {
        let letter = self.alphabet.decode(self.wild_type[position]);
        format!("{letter}{}", self.first + position as i64)
    }

    /// A substitution.
    pub fn substitution(&self, (position, letter): (usize, u8)) -> String {
        format!(
            "{}{}",
            self.position(position),
            self.alphabet.decode(letter)
        )
    }
}

/// Pairs, the strongest first: substitutions, eps of the model and of the data.
pub fn pairs_table(found: &Epistasis, names: Names<'_>) -> String {
    let mut text = "first\tsecond\teps_model\teps_data\n".to_owned();
    let mut pairs: Vec<&Pair> = found.pairs.iter().collect();
    pairs.sort_by(|a, b| b.model.abs().total_cmp(&a.model.abs()));
    for pair in pairs {
        let (first, second) = (
            names.substitution(pair.first),
            names.substitution(pair.second),
        );
        let _ = write!(text, "{first}\t{second}");
        push(&mut text, pair.model);
        push(&mut text, pair.data.unwrap_or(f64::NAN));
        text.push('\n');
    }
    text
}

/// The figures, for `summary.json`.
pub fn summary(found: &Epistasis, names: Names<'_>) -> Value {
    let positions: Vec<String> = found.positions.iter().map(|&p| names.position(p)).collect();
    let strongest: Vec<Value> = by_place(found)
        .into_iter()
        .take(20)
        .map(|((i, j), place)| {
            json!({
                "positions": [names.position(i), names.position(j)],
                "rms_model": place.model,
                "rms_data": place.data,
                "mean_model": place.signed,
            })
        })
        .collect();
    json!({
        "positions": positions,
        "pairs": found.pairs.len(),
        "measured_pairs": found.pairs.iter().filter(|pair| pair.data.is_some()).count(),
        "strongest": strongest,
        "agreement": found.agreement,
        "variance_by_order": found.orders,
        "beyond_additive": {
            "model": found.beyond_additive_model,
            "data": found.beyond_additive_data,
        },
        "notes": found.notes,
    })
}

/// Pairs of two positions together.
struct Place {
    /// Root mean square of eps in the model.
    model: f64,
    /// The same in the data.
    data: Option<f64>,
    /// Mean eps in the model.
    signed: f64,
}

/// Positions by the strength of what they do together, the strongest first.
fn by_place(found: &Epistasis) -> Vec<((usize, usize), Place)> {
    let mut groups: BTreeMap<(usize, usize), Vec<&Pair>> = BTreeMap::new();
    for pair in &found.pairs {
        groups
            .entry((pair.first.0, pair.second.0))
            .or_default()
            .push(pair);
    }
    let rms = |values: &[f64]| {
        let squares: Vec<f64> = values.iter().map(|v| v * v).collect();
        (!values.is_empty()).then(|| mean(&squares).sqrt())
    };
    let mut places: Vec<((usize, usize), Place)> = groups
        .into_iter()
        .map(|(at, pairs)| {
            let model: Vec<f64> = pairs.iter().map(|pair| pair.model).collect();
            let data: Vec<f64> = pairs.iter().filter_map(|pair| pair.data).collect();
            let place = Place {
                model: rms(&model).unwrap_or(0.0),
                data: rms(&data),
                signed: mean(&model),
            };
            (at, place)
        })
        .collect();
    places.sort_by(|a, b| b.1.model.total_cmp(&a.1.model));
    places
}

/// Draws `heatmap.svg`, `network.svg`, `orders.svg`, and `agreement.svg` where pairs were measured,
/// into `folder`, which exists.
///
/// # Errors
///
/// A plot cannot be drawn or written.
pub fn draw(found: &Epistasis, names: Names<'_>, folder: &Path) -> Result<(), HeadError> {
    let write =
        |name: &str, svg: String| -> Result<(), HeadError> { Ok(save(&folder.join(name), &svg)?) };
    let places = by_place(found);
    let number = |position: usize| found.positions.iter().position(|&p| p == position);
    let labels: Vec<String> = found.positions.iter().map(|&p| names.position(p)).collect();
    let mut values = vec![vec![f64::NAN; labels.len()]; labels.len()];
    for ((i, j), place) in &places {
        let (Some(i), Some(j)) = (number(*i), number(*j)) else {
            continue;
        };
        values[i][j] = place.model;
        values[j][i] = place.data.unwrap_or(f64::NAN);
    }
    let measured = found.pairs.iter().any(|pair| pair.data.is_some());
    let map = HeatMap {
        title: match measured {
            true => "Pairwise epistasis: the model above the diagonal, the data below".into(),
            false => "Pairwise epistasis of the model".into(),
        },
        label: "rms eps".into(),
        rows: labels.clone(),
        columns: labels.clone(),
        values,
        is_signed: false,
    };
    write("heatmap.svg", map.svg()?)?;
    let edges = places.iter().take(EDGES).filter_map(|((i, j), place)| {
        Some(Edge {
            from: number(*i)?,
            to: number(*j)?,
            strength: place.model.copysign(place.signed),
        })
    });
    let network = NetworkPlot {
        title: "Positions that act together, by the model".into(),
        nodes: labels,
        edges: edges.collect(),
        signs: ("more than the sum".into(), "less than the sum".into()),
    };
    write("network.svg", network.svg()?)?;
    write("orders.svg", orders(&found.orders).svg()?)?;
    if measured {
        let points = found
            .pairs
            .iter()
            .filter_map(|pair| Some((pair.data?, pair.model)));
        let plot = ScatterPlot {
            title: "Pairwise epistasis: model against data".into(),
            x: Axis::linear("eps of the data"),
            y: Axis::linear("eps of the model"),
            series: vec![Series::new("pairs", points)],
        };
        write("agreement.svg", plot.svg()?)?;
    }
    Ok(())
}

/// Shares of variance of the largest cubes.
fn orders(all: &[Orders]) -> BarPlot {
    let mut bars = Vec::new();
    let widest = all.iter().max_by_key(|o| (o.measured, o.substitutions));
    if let Some(orders) = widest {
        for (k, &share) in orders.model.iter().enumerate() {
            bars.push(Bar::subject(format!("order {}, model", k + 1), share));
            if let Some(data) = &orders.data {
                bars.push(Bar::baseline(format!("order {}, data", k + 1), data[k]));
            }
        }
    }
    BarPlot {
        title: "Variance by order of interaction".into(),
        value: Axis::linear("share of variance"),
        bars,
        decimals: 3,
    }
}
