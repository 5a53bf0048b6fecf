//! Markov chains: the baseline of every language-model figure.

use cistron_genome::revcomp;

/// Weight of the next lower order in each estimate, in observations.
const PRIOR: f64 = 4.0;

/// A Markov chain over A, C, G and T, with each order backing off to the one below.
///
/// `p_k(b | context) = (count + 4 p_{k-1}(b)) / (total + 4)`, down to a uniform
/// order -1: at low orders the plain estimate, at high ones a smoothed one.
pub struct Markov {
    order: usize,
    /// Counts of every order from 0: `counts[k][context * 4 + base]`.
    counts: Vec<Vec<u32>>,
}

impl Markov {
    /// An empty chain of this order, at most 12.
    ///
    /// # Panics
    ///
    /// When the order is higher.
    pub fn new(order: usize) -> Self {
        assert!(order <= 12, "orders above 12 do not fit in memory");
        Self {
            order,
            counts: (0..=order).map(|k| vec![0; 4 << (2 * k)]).collect(),
        }
    }

    /// Bases of context.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Counts a sequence and its reverse complement.
    pub fn observe(&mut self, bases: &[u8]) {
        for strand in [bases, &revcomp(bases)] {
            walk(strand, self.order, |context, known, base| {
                for k in 0..=known.min(self.order) {
                    let low = context & ((1 << (2 * k)) - 1);
                    let cell = &mut self.counts[k][low * 4 + base];
                    *cell = cell.saturating_add(1);
                }
            });
        }
    }

    /// Bits needed for `bases[from..]`, seeing what comes before, and the number of
    /// bases counted; other codes than A, C, G and T are not counted.
    pub fn bits(&self, bases: &[u8], from: usize) -> (f64, u64) {
        let (mut bits, mut counted) = (0.0, 0);
        let start = from.saturating_sub(self.order);
        let skip = from - start;
        let mut position = 0;
        walk_positions(&bases[start..], self.order, |at, context, known, base| {
            position = at;
            if position >= skip {
                bits -= self.probability(context, known, base).log2();
                counted += 1;
            }
        });
        (bits, counted)
    }

    fn probability(&self, context: usize, known: usize, base: usize) -> f64 {
        let mut p = 0.25;
        for k in 0..=known.min(self.order) {
            let low = (context & ((1 << (2 * k)) - 1)) * 4;
            let cells = &self.counts[k][low..low + 4];
            let total: f64 = cells.iter().map(|&count| f64::from(count)).sum();
            p = (f64::from(cells[base]) + PRIOR * p) / (total + PRIOR);
        }
        p
    }
}

fn walk(bases: &[u8], order: usize, mut visit: impl FnMut(usize, usize, usize)) {
    walk_positions(bases, order, |_, context, known, base| {
        visit(context, known, base)
    });
}

/// Calls `visit(position, context, known bases of context, base)` for every A, C, G, T.
fn walk_positions(bases: &[u8], order: usize, mut visit: impl FnMut(usize, usize, usize, usize)) {
    let (mut context, mut known) = (0usize, 0usize);
    let mask = (1usize << (2 * order)) - 1;
    for (position, base) in bases.iter().enumerate() {
        let code = match base {
            b'A' => 0,
            b'C' => 1,
            b'G' => 2,
            b'T' => 3,
            _ => {
                known = 0;
                continue;
            }
        };
        visit(position, context, known, code);
        context = ((context << 2) | code) & mask;
        known = (known + 1).min(order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_periodic_sequence_needs_its_order() {
        let bases: Vec<u8> = b"AACC".iter().copied().cycle().take(40_000).collect();
        let bits = |order| {
            let mut chain = Markov::new(order);
            chain.observe(&bases);
            let (bits, counted) = chain.bits(&bases, 0);
            bits / counted as f64
        };
        // Both strands are counted: AACC and GGTT, told apart by one base.
        assert!(bits(0) > 1.9, "{}", bits(0));
        assert!((bits(1) - 1.0).abs() < 0.01, "{}", bits(1));
        assert!(bits(2) < 0.01, "{}", bits(2));
    }

    #[test]
    fn other_codes_break_the_context_and_are_not_counted() {
        let mut chain = Markov::new(2);
        chain.observe(b"ACGTNACGT");
        assert_eq!(chain.bits(b"ANNA", 0).1, 2);
        assert_eq!(chain.bits(b"ACGT", 2).1, 2);
    }

    #[test]
    fn probabilities_sum_to_one() {
        let mut chain = Markov::new(3);
        chain.observe(b"ACGTTGCATGCCGATTAGACCAT");
        for context in 0..64 {
            let sum: f64 = (0..4).map(|base| chain.probability(context, 3, base)).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }
}
