//! Which window of the genomes comes when.
//!
//! A window is a pure function of the seed and of its number in the run, so a run can
//! be taken up anywhere without any saved generator, and ranks need not talk.

/// Where the windows of one batch stand in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Optimizer step, from 0.
    pub step: u64,
    /// Which of the batches that are accumulated for this step.
    pub part: u64,
    /// Batches accumulated for one step.
    pub parts: u64,
    /// Data-parallel rank.
    pub rank: u64,
    /// Number of ranks.
    pub world: u64,
}

impl Place {
    /// Number in the run of window `i` of a batch of `batch`. All ranks and parts of a
    /// step together draw the same windows for every way of dividing them.
    pub fn number(&self, i: u64, batch: u64) -> u64 {
        self.step * self.rows(batch) + self.row(i, batch)
    }

    /// Number of row `i` of a batch of `batch` among all rows of a step.
    pub fn row(&self, i: u64, batch: u64) -> u64 {
        (self.part * self.world + self.rank) * batch + i
    }

    /// Rows of a step, over all parts and ranks.
    pub fn rows(&self, batch: u64) -> u64 {
        self.parts * self.world * batch
    }

    /// The place of the batch after this one on the same rank.
    #[must_use]
    pub fn next(&self) -> Self {
        match self.part + 1 < self.parts {
            true => Self {
                part: self.part + 1,
                ..*self
            },
            false => Self {
                part: 0,
                step: self.step + 1,
                ..*self
            },
        }
    }
}

/// A stretch of a contig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Index of the contig in the sampler's list.
    pub contig: usize,
    /// First base, from 0.
    pub start: u64,
    /// Number of bases.
    pub length: u64,
    /// Whether it is read as its reverse complement.
    pub reverse: bool,
}

/// How rows read consecutive windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Windows of a stretch.
    pub windows: u64,
    /// Bases from one window to the next.
    pub stride: u64,
    /// Bases that a window has in common with the next: the first target there is not the
    /// first token here.
    pub tail: u64,
}

/// Draws windows from a list of contigs.
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    length: u64,
    reverse_complement: bool,
    contigs: Vec<u64>,
    /// Sum of the weights up to and including each contig.
    ends: Vec<u64>,
}

/// Decisions of one window: contig, start and strand of its first sequence, then those of
/// the sequences that fill its row.
const DECISIONS: u64 = 3;
/// Streams of decisions for one window of a stretch that its contig has no room for.
const OUTSIDE: u64 = 1 << 32;
/// The decision whether a window begins from nothing.
const BEGINNING: u64 = u64::MAX;

impl Sampler {
    /// Windows of `length` bases from contigs of the given lengths; none when there
    /// is no base at all.
    pub fn new(contigs: &[u64], length: u64, reverse_complement: bool, seed: u64) -> Option<Self> {
        Self::weighted(contigs, contigs, length, reverse_complement, seed)
    }

    /// As [`Sampler::new`], contigs being drawn by `weights`; a contig without bases has none.
    pub fn weighted(
        contigs: &[u64],
        weights: &[u64],
        length: u64,
        reverse_complement: bool,
        seed: u64,
    ) -> Option<Self> {
        let mut sum = 0;
        let ends: Vec<u64> = weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        (sum > 0 && length > 0).then(|| Self {
            seed,
            length,
            reverse_complement,
            contigs: contigs.to_vec(),
            ends,
        })
    }

    /// Window `number` of the run: the contig with probability proportional to its
    /// length, the start evenly over the contig such that the window ends within it, the
    /// strand evenly where both are wanted. A contig shorter than the window is taken whole.
    pub fn window(&self, number: u64) -> Window {
        self.pick(number, 0, self.length)
    }

    /// Another window of at most `length` bases for window `number`, by its own decisions;
    /// stream 0 gives the window itself.
    pub fn pick(&self, number: u64, stream: u64, length: u64) -> Window {
        let draw = |decision| self.draw(number, DECISIONS * stream + decision);
        let total = self.ends.last().copied().unwrap_or(0);
        let base = below(draw(0), total);
        let contig = self.ends.partition_point(|&end| end <= base);
        let available = self.contigs[contig];
        let length = available.min(length);
        Window {
            contig,
            start: below(draw(1), available - length + 1),
            length,
            reverse: self.reverse_complement && draw(2) >> 63 == 1,
        }
    }

    /// Whether window `number` begins from nothing, which it does with probability `share`.
    pub fn from_nothing(&self, number: u64, share: f64) -> bool {
        let unit = (self.draw(number, BEGINNING) >> 11) as f64 / (1u64 << 53) as f64;
        unit < share
    }

    /// Window of a row at step `step`, when rows read stretches of `windows` consecutive
    /// windows: the window, and which of its stretch it is. Rows begin new stretches at
    /// different steps. Where the contig has no room for the window, another one is drawn
    /// that is the first of its own.
    pub fn stretch(&self, row: u64, rows: u64, step: u64, plan: Stretch) -> (Window, u64) {
        let time = step + row % plan.windows;
        let (number, place) = ((time / plan.windows) * rows + row, time % plan.windows);
        let whole = self.pick(number, 0, plan.windows * plan.stride + plan.tail);
        let wanted = plan.stride + plan.tail;
        let from = place * plan.stride;
        if from + wanted > whole.length {
            let window = match place {
                0 => Window {
                    length: whole.length.min(wanted),
                    ..whole
                },
                _ => self.pick(number, OUTSIDE * place, wanted),
            };
            return (window, 0);
        }
        // A stretch of the reverse strand is read from its far end.
        let start = match whole.reverse {
            false => whole.start + from,
            true => whole.start + whole.length - from - wanted,
        };
        let window = Window {
            start,
            length: wanted,
            ..whole
        };
        (window, place)
    }

    /// 64 random bits for one decision of one window.
    fn draw(&self, number: u64, decision: u64) -> u64 {
        mix(mix(mix(self.seed) ^ number) ^ decision)
    }
}

/// One output of SplitMix64 (Steele, Lea and Flood 2014) for the state `x`.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps 64 random bits to `0..end`.
fn below(bits: u64, end: u64) -> u64 {
    ((u128::from(bits) * u128::from(end)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// First outputs of the published generator with seed 1234567.
    #[test]
    fn mixing_is_splitmix64() {
        let mut state = 1_234_567u64;
        for expected in [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973] {
            assert_eq!(mix(state), expected);
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    #[test]
    fn contigs_come_by_length_starts_evenly_strands_by_halves() {
        let sampler = Sampler::new(&[6000, 0, 3000, 1000], 500, true, 9).unwrap();
        let draws = 40_000u64;
        let windows: Vec<Window> = (0..draws).map(|n| sampler.window(n)).collect();
        let share = |is: &dyn Fn(&Window) -> bool| {
            windows.iter().filter(|w| is(w)).count() as f64 / draws as f64
        };
        for (contig, expected) in [(0, 0.6), (1, 0.0), (2, 0.3), (3, 0.1)] {
            let found = share(&|w| w.contig == contig);
            assert!((found - expected).abs() < 0.01, "{contig}: {found}");
        }
        assert!((share(&|w| w.reverse) - 0.5).abs() < 0.01);
        let starts: Vec<f64> = windows
            .iter()
            .filter(|w| w.contig == 0)
            .map(|w| w.start as f64 / 5500.0)
            .collect();
        let mean = starts.iter().sum::<f64>() / starts.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!(windows.iter().any(|w| w.contig == 3 && w.start == 0));
        assert!(windows.iter().any(|w| w.contig == 3 && w.start == 500));
    }

    #[test]
    fn ranks_and_parts_divide_the_same_windows() {
        let place = |part, parts, rank, world| Place {
            step: 7,
            part,
            parts,
            rank,
            world,
        };
        let numbers = |places: &[Place], batch: u64| {
            let mut all: Vec<u64> = places
                .iter()
                .flat_map(|place| (0..batch).map(|i| place.number(i, batch)))
                .collect();
            all.sort_unstable();
            all
        };
        let whole = numbers(&[place(0, 1, 0, 1)], 8);
        assert_eq!(whole, (56..64).collect::<Vec<_>>());
        let ranks: Vec<Place> = (0..4).map(|rank| place(0, 1, rank, 4)).collect();
        assert_eq!(numbers(&ranks, 2), whole);
        let both: Vec<Place> = (0..4).map(|i| place(i / 2, 2, i % 2, 2)).collect();
        assert_eq!(numbers(&both, 2), whole);
    }

    #[test]
    fn nothing_to_draw_from_is_none() {
        assert!(Sampler::new(&[], 5, false, 0).is_none());
        assert!(Sampler::new(&[0, 0], 5, false, 0).is_none());
    }

    proptest! {
        #[test]
        fn windows_are_pure_and_stay_within_their_contig(
            contigs in proptest::collection::vec(0u64..5000, 1..6),
            length in 1u64..6000,
            seed: u64,
            number: u64,
        ) {
            let make = || Sampler::new(&contigs, length, true, seed);
            let Some(sampler) = make() else { return Ok(()) };
            let window = sampler.window(number);
            let _ = sampler.window(number.wrapping_add(1));
            prop_assert_eq!(window, make().unwrap().window(number));
            prop_assert_eq!(window.length, length.min(contigs[window.contig]));
            prop_assert!(window.start + window.length <= contigs[window.contig]);
            prop_assert!(window.length > 0);
        }
    }
}
