//! Counts by mark and by stretch of the genome, and what can be said from them.

use serde::Serialize;

use super::marks::{MARKS, Mark};
use super::rng::Rng;

/// Stretches into which a genome is cut for the bootstrap, about.
const BLOCKS: u64 = 200;
/// Drawings of the bootstrap.
const DRAWS: usize = 400;

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How often a chunk starts at the bases of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The mark.
    pub mark: Mark,
    /// Its bases.
    pub bases: u64,
    /// Chunks that start there.
    pub boundaries: u64,
    /// Boundaries a base.
    pub rate: Estimate,
    /// Boundaries of the stage for each of the stage before it; as `rate` for the first.
    pub selected: Estimate,
}

/// Counts of one stretch.
#[derive(Debug, Clone)]
struct Block {
    bases: [u64; MARKS.len()],
    information: [f64; MARKS.len()],
    entropy: [f64; MARKS.len()],
    /// By stage.
    boundaries: Vec<[u64; MARKS.len()]>,
}

/// Counts of one strand of a genome.
#[derive(Debug, Clone)]
pub struct Tally {
    stages: usize,
    size: u64,
    blocks: Vec<Block>,
    /// Bases in the last block.
    filled: u64,
}

impl Tally {
    /// Nothing yet of a genome of `total` bases.
    pub fn new(stages: usize, total: u64) -> Self {
        Self::with_size(stages, (total / BLOCKS).max(500))
    }

    /// Nothing yet; stretches have `size` bases, and end with their contig.
    pub fn with_size(stages: usize, size: u64) -> Self {
        Self {
            stages,
            size,
            blocks: Vec::new(),
            filled: u64::MAX,
        }
    }

    /// The next base belongs to another stretch.
    pub fn end_contig(&mut self) {
        self.filled = u64::MAX;
    }

    /// Adds neighbouring bases: their marks, the stages that start a chunk at each, and their
    /// information and entropy in bits.
    pub fn add(&mut self, marks: &[u16], starts: &[u8], information: &[f32], entropy: &[f32]) {
        for (i, &marked) in marks.iter().enumerate() {
            if self.filled >= self.size {
                self.filled = 0;
                self.blocks.push(Block {
                    bases: [0; MARKS.len()],
                    information: [0.0; MARKS.len()],
                    entropy: [0.0; MARKS.len()],
                    boundaries: vec![[0; MARKS.len()]; self.stages],
                });
            }
            self.filled += 1;
            let Some(block) = self.blocks.last_mut() else {
                return;
            };
            let mut bits = marked;
            while bits != 0 {
                let mark = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                block.bases[mark] += 1;
                block.information[mark] += f64::from(information[i]);
                block.entropy[mark] += f64::from(entropy[i]);
                for (stage, counts) in block.boundaries.iter_mut().enumerate() {
                    counts[mark] += u64::from(starts[i] >> stage & 1);
                }
            }
        }
    }

    /// Rates of the stage `stage`, from zero, for the marks that occur.
    pub fn rates(&self, stage: usize) -> Vec<Rate> {
        let boundaries = |block: &Block, mark: usize| block.boundaries[stage][mark] as f64;
        let asked = |block: &Block, mark: usize| match stage {
            0 => block.bases[mark] as f64,
            _ => block.boundaries[stage - 1][mark] as f64,
        };
        let rates = self.estimates(&boundaries, &|block, mark| block.bases[mark] as f64);
        let selected = self.estimates(&boundaries, &asked);
        let total = |count: &dyn Fn(&Block) -> u64| self.blocks.iter().map(count).sum::<u64>();
        (0..MARKS.len())
            .map(|mark| Rate {
                mark: MARKS[mark],
                bases: total(&|block| block.bases[mark]),
                boundaries: total(&|block| block.boundaries[stage][mark]),
                rate: rates[mark],
                selected: selected[mark],
            })
            .filter(|rate| rate.bases > 0)
            .collect()
    }

    /// Mean information and entropy of the marks that occur.
    pub fn information(&self) -> Vec<super::InformationOf> {
        let bases = |block: &Block, mark: usize| block.bases[mark] as f64;
        let information = self.estimates(&|block, mark| block.information[mark], &bases);
        let entropy = self.estimates(&|block, mark| block.entropy[mark], &bases);
        (0..MARKS.len())
            .map(|mark| super::InformationOf {
                mark: MARKS[mark],
                bases: self.blocks.iter().map(|block| block.bases[mark]).sum(),
                information: information[mark],
                entropy: entropy[mark],
            })
            .filter(|found| found.bases > 0)
            .collect()
    }

    /// Ratios of two sums for every mark, with percentile intervals over stretches drawn with
    /// replacement.
    fn estimates(
        &self,
        above: &dyn Fn(&Block, usize) -> f64,
        below: &dyn Fn(&Block, usize) -> f64,
    ) -> Vec<Estimate> {
        let mut rng = Rng::new(1);
        let draws: Vec<Vec<usize>> = (0..DRAWS)
            .map(|_| {
                let count = self.blocks.len();
                (0..count).map(|_| rng.below(count)).collect()
            })
            .collect();
        (0..MARKS.len())
            .map(|mark| {
                let pairs: Vec<(f64, f64)> = self
                    .blocks
                    .iter()
                    .map(|block| (above(block, mark), below(block, mark)))
                    .collect();
                let ratio = |sum: (f64, f64)| if sum.1 > 0.0 { sum.0 / sum.1 } else { 0.0 };
                let add = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
                let value = ratio(pairs.iter().copied().fold((0.0, 0.0), add));
                let drawn = draws
                    .iter()
                    .map(|draw| draw.iter().map(|&i| pairs[i]).fold((0.0, 0.0), add));
                // A drawing without any base of the mark says nothing.
                let values: Vec<f64> = drawn.filter(|sum| sum.1 > 0.0).map(ratio).collect();
                let (low, high) = interval(values).unwrap_or((value, value));
                Estimate { value, low, high }
            })
            .collect()
    }
}

/// The middle 95 % of `values`.
pub(super) fn interval(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let place = |share: f64| values[(share * last as f64).round() as usize];
    Some((place(0.025), place(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_ratios_and_intervals_hold_them() {
        let mut tally = Tally::with_size(2, 100);
        let mut rng = Rng::new(5);
        for _ in 0..50 {
            let marks: Vec<u16> = (0..90)
                .map(|i| 1 | if i % 3 == 0 { Mark::Codon1.bit() } else { 0 })
                .collect();
            // Stage 1 at two thirds of first positions and nowhere else, stage 2 at half of those.
            let starts: Vec<u8> = (0..90)
                .map(|i| match (i % 3, rng.below(6)) {
                    (0, 0 | 1) => 1,
                    (0, 2 | 3) => 3,
                    _ => 0,
                })
                .collect();
            tally.add(&marks, &starts, &[1.5; 90], &[2.0; 90]);
            tally.end_contig();
        }
        assert_eq!(tally.blocks.len(), 50);
        let outer = tally.rates(0);
        assert_eq!(
            outer.iter().map(|r| (r.mark, r.bases)).collect::<Vec<_>>(),
            [(Mark::All, 4500), (Mark::Codon1, 1500)]
        );
        assert_eq!(outer[0].boundaries, outer[1].boundaries);
        let codon = outer[1].rate;
        assert!((codon.value - outer[1].boundaries as f64 / 1500.0).abs() < 1e-12);
        assert!(codon.low < codon.value && codon.value < codon.high);
        assert!(codon.low < 2.0 / 3.0 && 2.0 / 3.0 < codon.high && codon.high - codon.low < 0.08);
        let inner = tally.rates(1);
        assert!((inner[1].selected.value - 0.5).abs() < 0.05);
        assert!((inner[1].rate.value - inner[1].selected.value * codon.value).abs() < 1e-12);
        let bits = tally.information();
        assert!((bits[1].information.value - 1.5).abs() < 1e-9 && bits[1].entropy.high == 2.0);
    }
}
