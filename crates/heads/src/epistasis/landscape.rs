//! Measured genotypes.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{HIGHEST, subsets};
use crate::metrics::mean;
use crate::ridge::{Features, Order, Ridge};

/// Substitutions by position, as position and letter; empty for the wild type.
pub type Genotype = Vec<(usize, u8)>;

/// Genotypes with values.
#[derive(Debug, Clone)]
pub struct Landscape {
    values: BTreeMap<Genotype, f64>,
}

impl Landscape {
    /// Values of genotypes; of repeats the last counts.
    pub fn new(measured: impl IntoIterator<Item = (Genotype, f64)>) -> Self {
        Self {
            values: measured.into_iter().collect(),
        }
    }

    /// Gives the wild type a value where it has none.
    pub fn with_wild_type(&mut self, value: f64) {
        self.values.entry(Vec::new()).or_insert(value);
    }

    /// The value of a genotype.
    pub fn value(&self, genotype: &[(usize, u8)]) -> Option<f64> {
        self.values.get(genotype).copied()
    }

    /// All genotypes, in order.
    pub fn genotypes(&self) -> impl Iterator<Item = &Genotype> {
        self.values.keys()
    }

    /// The letters that occur at each changed position.
    pub fn letters(&self) -> BTreeMap<usize, Vec<u8>> {
        let mut letters: BTreeMap<usize, BTreeSet<u8>> = BTreeMap::new();
        for &(position, letter) in self.values.keys().flatten() {
            letters.entry(position).or_default().insert(letter);
        }
        letters
            .into_iter()
            .map(|(p, set)| (p, set.into_iter().collect()))
            .collect()
    }

    /// Positions that are changed together with another one somewhere.
    pub fn together(&self) -> BTreeSet<usize> {
        let several = self.values.keys().filter(|genotype| genotype.len() > 1);
        several.flatten().map(|&(position, _)| position).collect()
    }

    /// Sets of two substitutions and more that were measured with all their subsets, by their
    /// size, at most `most` of each, drawn at random.
    pub fn sets(
        &self,
        order: usize,
        most: usize,
        rng: &mut ChaCha8Rng,
    ) -> BTreeMap<usize, Vec<Genotype>> {
        let mut sets: BTreeMap<usize, Vec<Genotype>> = BTreeMap::new();
        let sizes = 2..=order.min(HIGHEST);
        let mut candidates: Vec<&Genotype> = self
            .values
            .keys()
            .filter(|g| sizes.contains(&g.len()))
            .collect();
        candidates.shuffle(rng);
        for genotype in candidates {
            let of = sets.entry(genotype.len()).or_default();
            if of.len() < most
                && subsets(genotype)
                    .iter()
                    .all(|g| self.values.contains_key(g))
            {
                of.push(genotype.clone());
            }
        }
        sets.retain(|_, of| !of.is_empty());
        sets.values_mut().for_each(|of| of.sort());
        sets
    }
}

/// Share of the variance of `values` that an additive model of the genotypes does not explain;
/// none where nothing varies or additive models have as many parameters as there are values.
pub fn beyond_additive(wild_type: &[u8], genotypes: &[Genotype], values: &[f64]) -> Option<f64> {
    let sequences: Vec<Vec<u8>> = genotypes
        .iter()
        .map(|genotype| {
            let mut sequence = wild_type.to_vec();
            genotype
                .iter()
                .for_each(|&(position, letter)| sequence[position] = letter);
            sequence
        })
        .collect();
    let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    let features = Features::of(Order::Additive, &rows, wild_type, &all);
    if features.count() + 1 >= rows.len() {
        return None;
    }
    let centre = mean(values);
    let total: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    // Below rounding there is no variance to explain.
    let size: f64 = values.iter().map(|value| value * value).sum();
    if total <= 1e-12 * size {
        return None;
    }
    let ridge = Ridge::fit(&features, &all, values, 1e-6 * rows.len() as f64 / 1_000.0);
    let left: f64 = all
        .iter()
        .map(|&row| (ridge.predict(&features, row) - values[row]).powi(2))
        .sum();
    Some((left / total).clamp(0.0, 1.0))
}
