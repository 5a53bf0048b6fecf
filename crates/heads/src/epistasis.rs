//! Epistasis: what substitutions do together beyond the sum of what they do alone.
//!
//! For a set S of substitutions `eps_S = Σ_{T ⊆ S} (-1)^{|S|-|T|} f(T)`, which for two is
//! `f(ij) - f(i) - f(j) + f(wild type)`. On a cube, the 2^n genotypes of n substitutions, the Walsh
//! coefficients are `w_S = 2^-n Σ_g (-1)^{|S ∩ g|} f(g)`, and `V_k = Σ_{|S|=k} w_S² / Σ_{S≠∅} w_S²`
//! is the share of variance of order k.

mod landscape;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::HeadError;
use crate::metrics::{pearson, spearman};
pub use landscape::{Genotype, Landscape};
pub use report::{Names, draw, pairs_table, summary};

/// Most substitutions of a set.
pub const HIGHEST: usize = 6;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// Positions from 0; empty for those that vary in the data, or all in view.
    pub positions: Vec<usize>,
    /// Positions at most, those with the largest single effects.
    pub most_positions: usize,
    /// Double mutants to predict at most.
    pub most_pairs: usize,
    /// Sets of each order at most.
    pub most_sets: usize,
    /// Highest order.
    pub order: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// Two substitutions and what they do together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The first, as position and letter.
    pub first: (usize, u8),
    /// The second.
    pub second: (usize, u8),
    /// By the model.
    pub model: f64,
    /// By the data, where all four were measured.
    pub data: Option<f64>,
}

/// Sets of one order, in model and data.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Substitutions of a set.
    pub order: usize,
    /// Sets that were measured with all their subsets.
    pub sets: usize,
    /// Rank correlation of the model's eps with the data's.
    pub spearman: Option<f64>,
    /// Linear correlation.
    pub pearson: Option<f64>,
    /// Root mean square of eps in the data.
    pub size_data: f64,
    /// The same in the model.
    pub size_model: f64,
}

/// Variance by order over cubes of some substitutions.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Orders {
    /// Substitutions of a cube.
    pub substitutions: usize,
    /// Number of cubes.
    pub cubes: usize,
    /// Whether these cubes were measured, or drawn for the model alone.
    pub measured: bool,
    /// V_1, V_2, ... of the model.
    pub model: Vec<f64>,
    /// The same of the data, where cubes were measured.
    pub data: Option<Vec<f64>>,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Epistasis {
    /// Positions that were looked at, from 0.
    pub positions: Vec<usize>,
    /// Pairs of substitutions.
    pub pairs: Vec<Pair>,
    /// Agreement by order.
    pub agreement: Vec<Agreement>,
    /// Variance by order.
    pub orders: Vec<Orders>,
    /// Share of the variance of the model's own predictions that no additive model explains.
    pub beyond_additive_model: Option<f64>,
    /// The same of the data.
    pub beyond_additive_data: Option<f64>,
    /// Decisions, in words.
    pub notes: Vec<String>,
}

/// Measures epistasis of `model`, which predicts genotypes, and of the `data` where there are any.
///
/// # Errors
///
/// Fewer than two positions, or the model's.
#[allow(clippy::type_complexity)]
pub fn analyse(
    wild_type: &[u8],
    letters: usize,
    view: &[usize],
    data: Option<&Landscape>,
    options: &Options,
    model: &mut dyn FnMut(&[Genotype]) -> Result<Vec<f64>, HeadError>,
) -> Result<Epistasis, HeadError> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut notes = Vec::new();
    let mut cache = Cache {
        known: BTreeMap::new(),
        model,
    };
    let alphabet = choices(wild_type, letters, view, data);
    let positions = positions(&alphabet, data, options, &mut cache, &mut notes)?;
    let measured = data.map(|data| data.sets(options.order, options.most_sets, &mut rng));
    let measured = measured.unwrap_or_default();
    let pairs = pairs(
        &alphabet, &positions, data, &measured, options, &mut rng, &mut cache,
    )?;
    let mut agreement = Vec::new();
    let mut orders = Vec::new();
    for (order, sets) in &measured {
        let sets: Vec<&Genotype> = sets.iter().collect();
        let Some(data) = data.filter(|_| sets.len() >= 3) else {
            continue;
        };
        let predicted = cubes(&sets, &mut cache)?;
        let of_data: Vec<Vec<f64>> = sets
            .iter()
            .map(|set| subsets(set).iter().filter_map(|g| data.value(g)).collect())
            .collect();
        let eps =
            |cubes: &[Vec<f64>]| -> Vec<f64> { cubes.iter().map(|c| interaction(c)).collect() };
        let (m, d) = (eps(&predicted), eps(&of_data));
        let size = |values: &[f64]| {
            (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
        };
        agreement.push(Agreement {
            order: *order,
            sets: sets.len(),
            spearman: spearman(&m, &d),
            pearson: pearson(&m, &d),
            size_data: size(&d),
            size_model: size(&m),
        });
        orders.push(Orders {
            substitutions: *order,
            cubes: sets.len(),
            measured: true,
            model: variance(&predicted),
            data: Some(variance(&of_data)),
        });
    }
    let width = options.order.min(positions.len());
    if width >= 2 {
        let drawn = draw_sets(
            &alphabet,
            &positions,
            width,
            options.most_sets.min(500),
            &mut rng,
        );
        let drawn: Vec<&Genotype> = drawn.iter().collect();
        let predicted = cubes(&drawn, &mut cache)?;
        orders.push(Orders {
            substitutions: width,
            cubes: drawn.len(),
            measured: false,
            model: variance(&predicted),
            data: None,
        });
    }
    let (beyond_model, beyond_data) = match data {
        Some(data) => {
            let genotypes: Vec<Genotype> = data.genotypes().cloned().collect();
            let predicted = cache.values(&genotypes)?;
            let values: Vec<f64> = genotypes.iter().filter_map(|g| data.value(g)).collect();
            (
                landscape::beyond_additive(wild_type, &genotypes, &predicted),
                landscape::beyond_additive(wild_type, &genotypes, &values),
            )
        }
        None => {
            let genotypes: Vec<Genotype> = cache.known.keys().cloned().collect();
            let predicted: Vec<f64> = cache.known.values().copied().collect();
            (
                landscape::beyond_additive(wild_type, &genotypes, &predicted),
                None,
            )
        }
    };
    Ok(Epistasis {
        positions,
        pairs,
        agreement,
        orders,
        beyond_additive_model: beyond_model,
        beyond_additive_data: beyond_data,
        notes,
    })
}

/// Predictions that are made once.
#[allow(clippy::type_complexity)]
struct Cache<'a> {
    known: BTreeMap<Genotype, f64>,
    model: &'a mut dyn FnMut(&[Genotype]) -> Result<Vec<f64>, HeadError>,
}

impl Cache<'_> {
    fn values(&mut self, genotypes: &[Genotype]) -> Result<Vec<f64>, HeadError> {
        let missing: BTreeSet<&Genotype> = genotypes
            .iter()
            .filter(|g| !self.known.contains_key(*g))
            .collect();
        let missing: Vec<Genotype> = missing.into_iter().cloned().collect();
        if !missing.is_empty() {
            let values = (self.model)(&missing)?;
            self.known.extend(missing.into_iter().zip(values));
        }
        Ok(genotypes.iter().map(|g| self.known[g]).collect())
    }
}

/// The letters other than the wild type's that positions may have: those in the data where there
/// are any.
fn choices(
    wild_type: &[u8],
    letters: usize,
    view: &[usize],
    data: Option<&Landscape>,
) -> BTreeMap<usize, Vec<u8>> {
    match data {
        Some(data) => data.letters(),
        None => view
            .iter()
            .map(|&i| {
                // A stop codon is no letter to design with.
                let others = (0..letters.min(20) as u8).filter(|&letter| letter != wild_type[i]);
                (i, others.collect())
            })
            .collect(),
    }
}

/// The positions to look at: those asked for, or those with the largest single effects.
fn positions(
    alphabet: &BTreeMap<usize, Vec<u8>>,
    data: Option<&Landscape>,
    options: &Options,
    cache: &mut Cache<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, HeadError> {
    let few = || HeadError::Options("epistasis needs two positions that vary".into());
    if !options.positions.is_empty() {
        let mut wanted = options.positions.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let unknown = wanted
            .iter()
            .find(|position| !alphabet.contains_key(position));
        if unknown.is_some() {
            return Err(HeadError::Options(
                "--positions names one that does not vary in the data, or that the head does not \
                 read"
                    .into(),
            ));
        }
        return if wanted.len() < 2 {
            Err(few())
        } else {
            Ok(wanted)
        };
    }
    let mut all: Vec<usize> = alphabet.keys().copied().collect();
    if let Some(data) = data {
        // Positions that occur together with others.
        let together = data.together();
        if together.len() >= 2 {
            all.retain(|position| together.contains(position));
        }
    }
    if all.len() < 2 {
        return Err(few());
    }
    if all.len() <= options.most_positions {
        return Ok(all);
    }
    notes.push(format!(
        "of {} positions the {} with the largest single effects are looked at; choose others with \
         --positions",
        all.len(),
        options.most_positions
    ));
    let wild_type = cache.values(&[Vec::new()])?[0];
    let mut effects = Vec::new();
    for &position in &all {
        let singles: Vec<Genotype> = alphabet[&position]
            .iter()
            .map(|&letter| vec![(position, letter)])
            .collect();
        let values = cache.values(&singles)?;
        let size: f64 = values.iter().map(|value| (value - wild_type).powi(2)).sum();
        effects.push((size / values.len() as f64, position));
    }
    effects.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut chosen: Vec<usize> = effects[..options.most_positions]
        .iter()
        .map(|&(_, position)| position)
        .collect();
    chosen.sort_unstable();
    Ok(chosen)
}

/// Pairs of substitutions: measured ones first, then others as far as allowed.
fn pairs(
    alphabet: &BTreeMap<usize, Vec<u8>>,
    positions: &[usize],
    data: Option<&Landscape>,
    measured: &BTreeMap<usize, Vec<Genotype>>,
    options: &Options,
    rng: &mut ChaCha8Rng,
    cache: &mut Cache<'_>,
) -> Result<Vec<Pair>, HeadError> {
    let places = positions.len() * (positions.len() - 1) / 2;
    let each = (options.most_pairs / places.max(1)).max(1);
    let mut by_place: BTreeMap<(usize, usize), Vec<Genotype>> = BTreeMap::new();
    for set in measured.get(&2).into_iter().flatten() {
        by_place
            .entry((set[0].0, set[1].0))
            .or_default()
            .push(set.clone());
    }
    let mut chosen: Vec<Genotype> = Vec::new();
    for (n, &i) in positions.iter().enumerate() {
        for &j in &positions[n + 1..] {
            let mut sets = by_place.remove(&(i, j)).unwrap_or_default();
            let known: BTreeSet<Genotype> = sets.iter().cloned().collect();
            let mut others: Vec<Genotype> = alphabet[&i]
                .iter()
                .flat_map(|&a| alphabet[&j].iter().map(move |&b| vec![(i, a), (j, b)]))
                .filter(|set| !known.contains(set))
                .collect();
            others.shuffle(rng);
            sets.append(&mut others);
            sets.truncate(each);
            chosen.append(&mut sets);
        }
    }
    let sets: Vec<&Genotype> = chosen.iter().collect();
    let predicted = cubes(&sets, cache)?;
    let pair = |(set, cube): (&Genotype, &Vec<f64>)| {
        let of_data = data.and_then(|data| {
            let values: Option<Vec<f64>> = subsets(set).iter().map(|g| data.value(g)).collect();
            values.map(|values| interaction(&values))
        });
        Pair {
            first: set[0],
            second: set[1],
            model: interaction(cube),
            data: of_data,
        }
    };
    Ok(chosen.iter().zip(&predicted).map(pair).collect())
}

/// Sets of `size` substitutions at different positions, drawn at random.
fn draw_sets(
    alphabet: &BTreeMap<usize, Vec<u8>>,
    positions: &[usize],
    size: usize,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Genotype> {
    let mut sets = BTreeSet::new();
    for _ in 0..count {
        let mut set: Genotype = positions
            .choose_multiple(rng, size)
            .filter_map(|&p| Some((p, *alphabet[&p].choose(rng)?)))
            .collect();
        set.sort_unstable();
        sets.insert(set);
    }
    sets.into_iter().collect()
}

/// The model's values of all subsets of each set.
fn cubes(sets: &[&Genotype], cache: &mut Cache<'_>) -> Result<Vec<Vec<f64>>, HeadError> {
    let all: Vec<Vec<Genotype>> = sets.iter().map(|set| subsets(set)).collect();
    let flat: Vec<Genotype> = all.iter().flatten().cloned().collect();
    let mut values = cache.values(&flat)?.into_iter();
    Ok(all
        .iter()
        .map(|cube| values.by_ref().take(cube.len()).collect())
        .collect())
}

/// All subsets of a set; bit i of a place says whether substitution i is in.
pub fn subsets(set: &[(usize, u8)]) -> Vec<Genotype> {
    let pick = |bits: usize| {
        let members = set.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        members.map(|(_, &substitution)| substitution).collect()
    };
    (0..1 << set.len()).map(pick).collect()
}

/// `Σ_T (-1)^{n-|T|} f(T)` of a cube in the order of [`subsets`].
pub fn interaction(cube: &[f64]) -> f64 {
    let n = cube.len().trailing_zeros();
    let sign = |bits: usize| {
        if (n - bits.count_ones()).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        }
    };
    cube.iter()
        .enumerate()
        .map(|(bits, value)| sign(bits) * value)
        .sum()
}

/// Walsh coefficients `w_S` of a cube; S by its bits.
pub fn walsh(cube: &[f64]) -> Vec<f64> {
    let mut w = cube.to_vec();
    let mut half = 1;
    while half < w.len() {
        for start in (0..w.len()).step_by(2 * half) {
            for i in start..start + half {
                let (a, b) = (w[i], w[i + half]);
                (w[i], w[i + half]) = (a + b, a - b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / w.len() as f64;
    w.iter_mut().for_each(|value| *value *= scale);
    w
}

/// `V_1, V_2, ...` over cubes of one size.
pub fn variance(cubes: &[Vec<f64>]) -> Vec<f64> {
    let n = cubes
        .first()
        .map_or(0, |cube| cube.len().trailing_zeros() as usize);
    let mut of = vec![0.0; n + 1];
    for cube in cubes {
        for (bits, w) in walsh(cube).into_iter().enumerate() {
            of[bits.count_ones() as usize] += w * w;
        }
    }
    let total: f64 = of[1..].iter().sum();
    of[1..]
        .iter()
        .map(|v| if total > 0.0 { v / total } else { 0.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Additive, plus a pair of 0 and 1, plus a triple of 1, 2 and 3.
    fn planted(genotype: &[(usize, u8)]) -> f64 {
        let has = |position: usize| {
            genotype
                .iter()
                .any(|&(p, letter)| p == position && letter == 1)
        };
        let additive: f64 = genotype
            .iter()
            .map(|&(p, letter)| (p + letter as usize) as f64)
            .sum();
        let pair = if has(0) && has(1) { 4.0 } else { 0.0 };
        let triple = if has(1) && has(2) && has(3) {
            -7.0
        } else {
            0.0
        };
        additive + pair + triple
    }

    fn options() -> Options {
        Options {
            positions: Vec::new(),
            most_positions: 10,
            most_pairs: 1_000,
            most_sets: 1_000,
            order: 4,
            seed: 1,
        }
    }

    #[test]
    fn planted_sets_are_found_exactly() {
        let mut model = |g: &[Genotype]| Ok(g.iter().map(|g| planted(g)).collect());
        let found = analyse(&[0; 5], 2, &[0, 1, 2, 3, 4], None, &options(), &mut model).unwrap();
        assert_eq!(found.positions, [0, 1, 2, 3, 4]);
        for pair in &found.pairs {
            let at = (pair.first.0, pair.second.0);
            assert!((pair.model - if at == (0, 1) { 4.0 } else { 0.0 }).abs() < 1e-9);
        }
        assert!(found.beyond_additive_model.unwrap() > 0.01);
        let triple: Vec<f64> = subsets(&[(1, 1), (2, 1), (3, 1)])
            .iter()
            .map(|g| planted(g))
            .collect();
        assert_eq!(interaction(&triple), -7.0);
        let shares = variance(&[triple]);
        assert!(shares[2] > 0.0 && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn walsh_is_its_definition() {
        let cube: Vec<f64> = (0..8).map(|i| f64::from(i * i % 5)).collect();
        for (s, w) in walsh(&cube).into_iter().enumerate() {
            let term = |(g, f): (usize, &f64)| {
                if (s & g).count_ones() % 2 == 0 {
                    *f
                } else {
                    -f
                }
            };
            let expected: f64 = cube.iter().enumerate().map(term).sum::<f64>() / 8.0;
            assert!((w - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn model_and_data_are_compared_by_order() {
        let mut measured = Vec::new();
        for bits in 0..32u32 {
            let set: Genotype = (0..5usize)
                .filter(|i| bits >> i & 1 == 1)
                .map(|i| (i, 1u8))
                .collect();
            measured.push((set.clone(), planted(&set)));
        }
        let data = Landscape::new(measured);
        let mut model = |g: &[Genotype]| Ok(g.iter().map(|g| 2.0 * planted(g) + 1.0).collect());
        let found = analyse(
            &[0; 5],
            2,
            &[0, 1, 2, 3, 4],
            Some(&data),
            &options(),
            &mut model,
        )
        .unwrap();
        let orders: Vec<usize> = found.agreement.iter().map(|a| a.order).collect();
        assert_eq!(orders, [2, 3, 4]);
        for agreement in &found.agreement[..2] {
            assert!((agreement.pearson.unwrap() - 1.0).abs() < 1e-9);
            assert!((agreement.size_model / agreement.size_data - 2.0).abs() < 1e-9);
        }
        for orders in found.orders.iter().filter(|orders| orders.measured) {
            let data = orders.data.as_ref().unwrap();
            assert!(
                orders
                    .model
                    .iter()
                    .zip(data)
                    .all(|(m, d)| (m - d).abs() < 1e-9)
            );
        }
        assert!(found.pairs.iter().all(|p| p.data.is_some()));
    }
}
