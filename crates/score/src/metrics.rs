//! Measures of a score against labels and measured values.

mod logistic;
pub mod rank;

pub use logistic::{Logistic, logistic};
pub use rank::{Ranking, spearman};

/// Area under the ROC curve with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Auroc {
    /// Chance that a positive has a higher score than a negative, ties counting half.
    pub auroc: f64,
    /// 95 % interval by the method of DeLong, within 0 to 1.
    pub ci: [f64; 2],
}

/// AUROC with DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988); none where a class has
/// fewer than two members.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<Auroc> {
    let pick = |wanted: bool| -> Vec<f64> {
        let pairs = scores.iter().zip(positive);
        pairs
            .filter(|(_, p)| **p == wanted)
            .map(|(s, _)| *s)
            .collect()
    };
    let (high, low) = (pick(true), pick(false));
    let (m, n) = (high.len(), low.len());
    if m < 2 || n < 2 {
        return None;
    }
    let all: Vec<f64> = high.iter().chain(&low).copied().collect();
    let (ranks, of_high, of_low) = (midranks(&all), midranks(&high), midranks(&low));
    // Share of the other class below each member.
    let above: Vec<f64> = (0..m).map(|i| (ranks[i] - of_high[i]) / n as f64).collect();
    let below: Vec<f64> = (0..n)
        .map(|j| 1.0 - (ranks[m + j] - of_low[j]) / m as f64)
        .collect();
    let auroc = mean(&above);
    let error = (variance(&above) / m as f64 + variance(&below) / n as f64).sqrt();
    let ci = [auroc - 1.96 * error, auroc + 1.96 * error].map(|edge| edge.clamp(0.0, 1.0));
    Some(Auroc { auroc, ci })
}

/// Average precision: area under the precision-recall curve as a sum of steps, tied scores taken
/// together; none without a positive.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let positives = positive.iter().filter(|p| **p).count();
    let (mut taken, mut found, mut area) = (0, 0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let new = tied.iter().filter(|&&i| positive[i]).count();
        taken += tied.len();
        found += new;
        area += new as f64 / positives as f64 * found as f64 / taken as f64;
    }
    (positives > 0).then_some(area)
}

/// 95 % interval of the average precision: percentiles over 1,000 resamples of the items.
pub fn precision_interval(scores: &[f64], positive: &[bool], seed: u64) -> Option<[f64; 2]> {
    average_precision(scores, positive)?;
    rank::percentiles(scores.len(), seed, |drawn| {
        let scores: Vec<f64> = drawn.iter().map(|&i| scores[i]).collect();
        let positive: Vec<bool> = drawn.iter().map(|&i| positive[i]).collect();
        average_precision(&scores, &positive)
    })
}

/// Ranks from 1, tied values sharing their mean.
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        before += tied.len();
    }
    ranks
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|x| (x - mean).powi(2));
    squares.sum::<f64>() / (values.len() as f64 - 1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let scores = [0.1, 0.4, 0.35, 0.8];
        let positive = [false, false, true, true];
        let found = auroc(&scores, &positive).expect("both classes");
        assert!((found.auroc - 0.75).abs() < 1e-12);
        // Placements 0.5 and 1 on both sides: variance 0.125 each, over two members each.
        let error = (0.125f64 / 2.0 + 0.125 / 2.0).sqrt();
        assert!((found.ci[0] - (0.75 - 1.96 * error)).abs() < 1e-12);
        assert_eq!(found.ci[1], 1.0);
        let precision = average_precision(&scores, &positive).expect("positives");
        assert!((precision - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(auroc(&[1.0, 2.0], &[true, false]), None);
        assert_eq!(average_precision(&[1.0], &[false]), None);
    }

    proptest! {
        #[test]
        fn auroc_is_the_share_of_ordered_pairs(
            items in prop::collection::vec((0u8..6, any::<bool>()), 4..40)
        ) {
            let scores: Vec<f64> = items.iter().map(|(s, _)| f64::from(*s)).collect();
            let positive: Vec<bool> = items.iter().map(|(_, p)| *p).collect();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (a, _) in items.iter().filter(|(_, p)| *p) {
                for (b, _) in items.iter().filter(|(_, p)| !*p) {
                    pairs += 1.0;
                    won += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            if let Some(found) = auroc(&scores, &positive) {
                prop_assert!((found.auroc - won / pairs).abs() < 1e-12);
                prop_assert!(found.ci[0] <= found.auroc && found.auroc <= found.ci[1]);
            }
        }
    }
}
