//! All single and chosen double mutants of a wild type, by prediction.

use std::collections::HashSet;

use tch::Device;

use crate::error::HeadError;
use crate::folder::Head;
use crate::mutant::{Substitution, name};
use crate::predict::Predicted;

/// Sequences that are predicted at once.
const BLOCK: usize = 4096;

/// Which mutants.
#[derive(Debug, Clone)]
pub struct Options {
    /// Positions from 0; empty for all in view.
    pub positions: Vec<usize>,
    /// Single mutants whose pairs are predicted too: the best ones.
    pub best: usize,
    /// Which output is ranked by.
    pub target: usize,
    /// Deviations that count against a mutant.
    pub caution: f64,
}

/// A mutant.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Its substitutions.
    pub name: String,
    /// Their number.
    pub order: usize,
    /// The prediction.
    pub predicted: f64,
    /// Its standard deviation over networks.
    pub deviation: f64,
    /// Less the prediction of the wild type.
    pub change: f64,
    /// The prediction less `caution` deviations: what is ranked by.
    pub bound: f64,
    /// For two substitutions: the prediction less the sum of both alone.
    pub epistasis: Option<f64>,
}

/// Predicts mutants of `wild_type` and puts the best first; the wild type is among them, as `WT`.
///
/// # Errors
///
/// The head cannot predict from letters alone, or has no wild type of this length.
pub fn rank(
    head: &Head,
    wild_type: &[u8],
    options: &Options,
    device: Device,
    parallel: bool,
) -> Result<Vec<Ranked>, HeadError> {
    if let Some(reason) = head.refuses(wild_type) {
        return Err(HeadError::Options(format!(
            "the wild type cannot be predicted by this head: {reason}; leave --wild-type away to \
             take the head's own"
        )));
    }
    let description = &head.description;
    let readable = description.view.positions(wild_type.len());
    let wanted: HashSet<usize> = options.positions.iter().copied().collect();
    let in_view = |position: &usize| wanted.is_empty() || wanted.contains(position);
    let positions: Vec<usize> = readable.iter().copied().filter(in_view).collect();
    if positions.is_empty() {
        let number = |end: Option<&usize>| description.first + end.map_or(0, |&i| i as i64);
        return Err(HeadError::Options(format!(
            "--positions: the head reads {} of {} to {} alone",
            readable.len(),
            number(readable.first()),
            number(readable.last())
        )));
    }
    let letters = description.alphabet.size().min(20) as u8;
    let singles: Vec<Vec<(usize, u8)>> = positions
        .iter()
        .flat_map(|&p| {
            (0..letters)
                .filter(move |&l| l != wild_type[p])
                .map(move |l| vec![(p, l)])
        })
        .collect();
    let predict = |mutants: &[Vec<(usize, u8)>]| -> Result<Vec<Predicted>, HeadError> {
        let mut predicted = Vec::with_capacity(mutants.len());
        for block in mutants.chunks(BLOCK) {
            let sequences: Vec<Vec<u8>> = block
                .iter()
                .map(|mutant| {
                    let mut sequence = wild_type.to_vec();
                    mutant
                        .iter()
                        .for_each(|&(position, letter)| sequence[position] = letter);
                    sequence
                })
                .collect();
            let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
            predicted.extend(head.predict(&rows, device, parallel)?);
        }
        Ok(predicted)
    };
    let base = &predict(&[Vec::new()])?[0];
    let base_value = base.values[options.target];
    let row = |mutant: &[(usize, u8)], p: &Predicted| {
        let (predicted, deviation) = (p.values[options.target], p.deviations[options.target]);
        let substitutions: Vec<Substitution> = mutant
            .iter()
            .map(|&(position, letter)| Substitution {
                position: description.first + position as i64,
                from: description.alphabet.letters()[usize::from(wild_type[position])],
                to: description.alphabet.letters()[usize::from(letter)],
            })
            .collect();
        Ranked {
            name: name(&substitutions),
            order: mutant.len(),
            predicted,
            deviation,
            change: predicted - base_value,
            bound: predicted - options.caution * deviation,
            epistasis: None,
        }
    };
    let predictions = predict(&singles)?;
    let mut ranked = vec![row(&[], base)];
    let mut best: Vec<(f64, usize)> = Vec::new();
    for (i, (mutant, p)) in singles.iter().zip(&predictions).enumerate() {
        let entry = row(mutant, p);
        best.push((entry.bound, i));
        ranked.push(entry);
    }
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    best.truncate(options.best);
    let mut doubles = Vec::new();
    let mut changes = Vec::new();
    for (n, &(_, a)) in best.iter().enumerate() {
        for &(_, b) in &best[n + 1..] {
            if singles[a][0].0 == singles[b][0].0 {
                continue;
            }
            let mut pair = vec![singles[a][0], singles[b][0]];
            pair.sort_unstable();
            doubles.push(pair);
            let alone = |i: usize| predictions[i].values[options.target];
            changes.push(alone(a) + alone(b) - base_value);
        }
    }
    for ((mutant, p), sum) in doubles.iter().zip(&predict(&doubles)?).zip(changes) {
        let entry = row(mutant, p);
        ranked.push(Ranked {
            epistasis: Some(entry.predicted - sum),
            ..entry
        });
    }
    ranked.sort_by(|a, b| b.bound.total_cmp(&a.bound));
    Ok(ranked)
}
