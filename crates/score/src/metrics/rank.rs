//! How well a score ranks measured values.

use rayon::prelude::*;

use super::{auroc, mean, midranks};

/// Resamples of a bootstrap interval.
const RESAMPLES: u64 = 1000;

/// Agreement of a score with measured values. Fields are none where they are not defined, as when
/// all scores are equal.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Ranking {
    /// Spearman's correlation, signed, ties sharing their mean rank.
    pub spearman: Option<f64>,
    /// Its 95 % interval: percentiles over 1,000 resamples of the variants.
    pub ci: Option<[f64; 2]>,
    /// Area under the ROC curve of the score for the fit class.
    pub auroc: Option<f64>,
    /// Its 95 % interval by the method of DeLong.
    pub auroc_ci: Option<[f64; 2]>,
    /// Matthews' correlation of the fit class with scores above their median.
    pub mcc: Option<f64>,
    /// Normalised discounted cumulative gain over the tenth with the highest scores; gains are
    /// the measured values scaled to 0 to 1.
    pub ndcg: Option<f64>,
    /// Share of the tenth that measured highest among the tenth that scored highest.
    pub top_decile_recall: Option<f64>,
}

impl Ranking {
    /// Measures `scores` against `values`, and against the classes `fit`.
    pub fn of(scores: &[f64], values: &[f64], fit: &[bool], seed: u64) -> Self {
        let area = auroc(scores, fit);
        let distinct = scores.iter().any(|s| *s != scores[0]);
        Self {
            spearman: spearman(scores, values),
            ci: bootstrap(scores, values, seed),
            auroc: area.filter(|_| distinct).map(|area| area.auroc),
            auroc_ci: area.filter(|_| distinct).map(|area| area.ci),
            mcc: matthews(scores, fit),
            ndcg: distinct.then(|| ndcg(scores, values)).flatten(),
            top_decile_recall: distinct
                .then(|| top_decile_recall(scores, values))
                .flatten(),
        }
    }
}

/// Spearman's correlation; none for fewer than three items, or where one side is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 3 {
        return None;
    }
    correlation(&midranks(a), &midranks(b))
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        both += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    (of_a > 0.0 && of_b > 0.0).then(|| both / (of_a * of_b).sqrt())
}

/// 95 % interval of Spearman's correlation: percentiles over 1,000 resamples with replacement.
/// The same seed gives the same interval, whatever the number of threads.
pub fn bootstrap(a: &[f64], b: &[f64], seed: u64) -> Option<[f64; 2]> {
    spearman(a, b)?;
    let (a, levels_a) = levels(a);
    let (b, levels_b) = levels(b);
    percentiles(a.len(), seed, |drawn| {
        let ranks = |of: &[u32], levels: usize| -> Vec<f64> {
            let mut rank = vec![0.0; levels];
            drawn.iter().for_each(|&i| rank[of[i] as usize] += 1.0);
            let mut before = 0.0;
            for cell in &mut rank {
                let here = *cell;
                *cell = before + (here + 1.0) / 2.0;
                before += here;
            }
            drawn.iter().map(|&i| rank[of[i] as usize]).collect()
        };
        correlation(&ranks(&a, levels_a), &ranks(&b, levels_b))
    })
}

/// The central 95 % of what `of` makes of 1,000 resamples of `count` items with replacement.
pub(super) fn percentiles(
    count: usize,
    seed: u64,
    of: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Option<[f64; 2]> {
    let mut found: Vec<f64> = (0..RESAMPLES)
        .into_par_iter()
        .filter_map(|number| {
            let mut state = mix(seed ^ mix(number));
            let drawn: Vec<usize> = (0..count)
                .map(|_| {
                    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    ((u128::from(mix(state)) * count as u128) >> 64) as usize
                })
                .collect();
            of(&drawn)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |share: f64| found.get((share * (found.len() as f64 - 1.0)).round() as usize);
    Some([*at(0.025)?, *at(0.975)?])
}

/// The number of each value among the different ones, and how many those are.
fn levels(values: &[f64]) -> (Vec<u32>, usize) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut numbers = vec![0; values.len()];
    let mut count = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        tied.iter().for_each(|&i| numbers[i] = count);
        count += 1;
    }
    (numbers, count as usize)
}

/// A well mixed number (the finaliser of SplitMix64, Steele and others 2014).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn matthews(scores: &[f64], fit: &[bool]) -> Option<f64> {
    let cut = median(scores)?;
    let count = |high: bool, wanted: bool| {
        let pairs = scores.iter().zip(fit);
        pairs
            .filter(|(s, f)| (**s >= cut) == high && **f == wanted)
            .count() as f64
    };
    let (tp, fp) = (count(true, true), count(true, false));
    let (missed, tn) = (count(false, true), count(false, false));
    let below = ((tp + fp) * (tp + missed) * (tn + fp) * (tn + missed)).sqrt();
    (below > 0.0).then(|| (tp * tn - fp * missed) / below)
}

/// The middle value; the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let half = sorted.len() / 2;
    Some(match sorted.len() % 2 {
        1 => sorted[half],
        _ => (sorted.get(half.checked_sub(1)?)? + sorted[half]) / 2.0,
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value that nine tenths lie below, between two neighbours where need be.
fn ninetieth(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let at = 0.9 * (sorted.len().checked_sub(1)?) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

fn top_decile_recall(scores: &[f64], values: &[f64]) -> Option<f64> {
    let (high_score, high_value) = (ninetieth(scores)?, ninetieth(values)?);
    let best: Vec<bool> = values.iter().map(|v| *v >= high_value).collect();
    let found = scores
        .iter()
        .zip(&best)
        .filter(|(s, best)| **best && **s >= high_score);
    Some(found.count() as f64 / best.iter().filter(|b| **b).count() as f64)
}

/// Items of equal score share the mean of their gains, so that their order does not matter.
fn ndcg(scores: &[f64], values: &[f64]) -> Option<f64> {
    let kept = values.len() / 10;
    let by_value = sorted(values);
    let (low, high) = (*by_value.first()?, *by_value.last()?);
    if kept == 0 || high <= low {
        return None;
    }
    let gain = |value: f64| (value - low) / (high - low);
    let discount = |place: usize| 1.0 / ((place + 2) as f64).log2();
    let ideal: f64 = by_value
        .iter()
        .rev()
        .take(kept)
        .enumerate()
        .map(|(place, value)| gain(*value) * discount(place))
        .sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let (mut place, mut sum) = (0, 0.0);
    for tied in order.chunk_by(|&i, &j| scores[i] == scores[j]) {
        let shared = tied.iter().map(|&i| gain(values[i])).sum::<f64>() / tied.len() as f64;
        for _ in tied {
            if place < kept {
                sum += shared * discount(place);
            }
            place += 1;
        }
    }
    Some(sum / ideal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(count: u64) -> Vec<f64> {
        (0..count).map(|i| (mix(i) % 1000) as f64).collect()
    }

    #[test]
    fn spearman_is_signed_and_shares_ranks() {
        let close = |found: Option<f64>, expected: f64| {
            assert!(
                (found.expect("defined") - expected).abs() < 1e-12,
                "{found:?}"
            );
        };
        close(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]), 1.0);
        close(spearman(&[1.0, 2.0, 3.0], &[9.0, 2.0, 1.0]), -1.0);
        // Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4.
        close(
            spearman(&[1.0, 1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]),
            4.5 / (4.5f64 * 5.0).sqrt(),
        );
        assert_eq!(spearman(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn the_interval_holds_the_value_and_is_reproducible() {
        let values = shuffled(400);
        let noisy: Vec<f64> = (0..400u64)
            .map(|i| values[i as usize] + (mix(i + 7777) % 1500) as f64)
            .collect();
        let found = spearman(&noisy, &values).expect("defined");
        let [low, high] = bootstrap(&noisy, &values, 1).expect("defined");
        assert!(
            low < found && found < high && high - low < 0.2,
            "{low} {high}"
        );
        assert_eq!(bootstrap(&noisy, &values, 1), Some([low, high]));
        assert_ne!(bootstrap(&noisy, &values, 2), Some([low, high]));
        // About that of the normal approximation.
        let error = ((1.0 - found * found) / (397f64).sqrt()) * 2.0 * 1.96;
        assert!((high - low) / error > 0.7 && (high - low) / error < 1.4);
    }

    #[test]
    fn a_perfect_score_is_perfect_in_every_measure() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let fit: Vec<bool> = values.iter().map(|v| *v >= 50.0).collect();
        let perfect = Ranking::of(&values, &values, &fit, 0);
        assert_eq!(perfect.auroc, Some(1.0));
        assert_eq!(perfect.mcc, Some(1.0));
        assert!((perfect.ndcg.expect("defined") - 1.0).abs() < 1e-12);
        assert_eq!(perfect.top_decile_recall, Some(1.0));
        let turned: Vec<f64> = values.iter().map(|v| -v).collect();
        let worst = Ranking::of(&turned, &values, &fit, 0);
        assert_eq!((worst.auroc, worst.mcc), (Some(0.0), Some(-1.0)));
        assert_eq!(worst.top_decile_recall, Some(0.0));
        assert!(worst.ndcg.expect("defined") < 0.1);
    }

    #[test]
    fn a_constant_score_has_no_measure() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let fit: Vec<bool> = values.iter().map(|v| *v >= 25.0).collect();
        let none = Ranking::of(&[1.0; 50], &values, &fit, 0);
        assert_eq!((none.spearman, none.ci, none.auroc), (None, None, None));
        assert_eq!(
            (none.mcc, none.ndcg, none.top_decile_recall),
            (None, None, None)
        );
    }

    #[test]
    fn ndcg_does_not_depend_on_the_order_of_ties() {
        let values = shuffled(60);
        let scores: Vec<f64> = (0..60).map(|i| f64::from(i % 4)).collect();
        let forward = ndcg(&scores, &values).expect("defined");
        let turn = |of: &[f64]| of.iter().rev().copied().collect::<Vec<f64>>();
        let backward = ndcg(&turn(&scores), &turn(&values)).expect("defined");
        assert!((forward - backward).abs() < 1e-12);
    }
}
