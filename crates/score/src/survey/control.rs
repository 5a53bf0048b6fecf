//! What would be seen by chance.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::{Contig, Genome};
use cistron_genome::gff::Annotation;

use super::marks::{MARKS, marks};
use super::rng::Rng;
use super::tally::{Estimate, Rate, Tally, interval};
use crate::boundaries::{self, Piece, Reading};
use crate::engine::Engine;
use crate::error::ScoreError;

/// Times that chunks are put in another order.
const ORDERS: usize = 20;
/// Chunks that are placed in all, over all orders.
const PLACED: u64 = 20_000_000;
/// Bases at the start of a shuffled window that are read and dropped.
const LEAD: usize = 512;
/// Bases that the bootstrap draws together; shuffled bases do not depend on their neighbours.
const STRETCH: u64 = 512;
/// Bases of a shuffled window that are counted.
const WINDOW: usize = 4096;

/// The chunks of one stage in random order: lengths stay, places do not.
#[derive(Debug, Clone)]
pub struct Random {
    rng: Rng,
    total: u64,
    bases: [u64; MARKS.len()],
    /// Boundaries at the bases of each mark, by order.
    hits: Vec<[u64; MARKS.len()]>,
}

impl Random {
    pub(super) fn new(stages: usize, total: u64) -> Self {
        Self {
            rng: Rng::new(stages as u64 ^ total),
            total,
            bases: [0; MARKS.len()],
            hits: Vec::new(),
        }
    }

    /// Adds the chunks of a contig, given by their lengths.
    pub(super) fn add(
        &mut self,
        mut lengths: Vec<u32>,
        marks: &[u16],
        stage: usize,
        strand: Strand,
    ) {
        if self.hits.is_empty() {
            // Fewer orders where there are many chunks: their intervals are narrow anyway.
            let expected = (self.total / (3 << stage)).max(1);
            let orders = (PLACED / expected).clamp(5, ORDERS as u64) as usize;
            self.hits = vec![[0; MARKS.len()]; orders];
        }
        for &marked in marks {
            count(&mut self.bases, marked);
        }
        for hits in &mut self.hits {
            self.rng.shuffle(&mut lengths);
            let mut edge = 0;
            for &length in &lengths {
                let first = match strand {
                    Strand::Forward => edge,
                    Strand::Reverse => edge + length as usize - 1,
                };
                count(hits, marks[first]);
                edge += length as usize;
            }
        }
    }

    /// Rates of the marks that occur, over all orders.
    pub(super) fn rates(&self) -> Vec<Rate> {
        (0..MARKS.len())
            .filter(|&mark| self.bases[mark] > 0)
            .map(|mark| {
                let bases = self.bases[mark] as f64;
                let rates: Vec<f64> = self
                    .hits
                    .iter()
                    .map(|hits| hits[mark] as f64 / bases)
                    .collect();
                let value = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
                let (low, high) = interval(rates).unwrap_or((value, value));
                let rate = Estimate { value, low, high };
                Rate {
                    mark: MARKS[mark],
                    bases: self.bases[mark],
                    boundaries: (value * bases).round() as u64,
                    rate,
                    selected: rate,
                }
            })
            .collect()
    }
}

fn count(counts: &mut [u64; MARKS.len()], mut bits: u16) {
    while bits != 0 {
        counts[bits.trailing_zeros() as usize] += 1;
        bits &= bits - 1;
    }
}

/// Rates by stage of the model on about `bases` shuffled bases of a strand: windows evenly
/// spaced over the genome, the bases of each in random order, counted by the marks of the bases
/// that were there. A phase that is left here does not come from the sequence.
///
/// # Errors
/// As [`boundaries::read`].
pub fn shuffled(
    engine: &Engine,
    genome: &Genome,
    annotation: Option<&Annotation>,
    strand: Strand,
    bases: usize,
) -> Result<Vec<Vec<Rate>>, ScoreError> {
    let total = genome.total_len() as usize;
    let wanted = (bases / WINDOW).max(1);
    let step = (total / wanted).max(WINDOW);
    let mut rng = Rng::new(11);
    let mut windows: Vec<Contig> = Vec::new();
    let mut marked = Vec::new();
    let mut next = 0;
    let mut first = 0;
    for contig in &genome.contigs {
        let length = contig.bases.len();
        let whole = marks(annotation, contig, strand);
        while next < first + length {
            let start = next.saturating_sub(first);
            let end = (start + WINDOW).min(length);
            next += step;
            if end - start < WINDOW.min(total) / 4 {
                continue;
            }
            let mut bases = contig.bases[start..end].to_vec();
            rng.shuffle(&mut bases);
            let mut lead = bases.clone();
            rng.shuffle(&mut lead);
            lead.truncate(LEAD);
            let kept = bases.len();
            let bases = match strand {
                Strand::Forward => [lead, bases].concat(),
                Strand::Reverse => [bases, lead].concat(),
            };
            windows.push(Contig {
                name: format!("shuffled{}", windows.len()).as_str().into(),
                description: String::new(),
                bases,
                topology: Topology::Linear,
            });
            marked.push((kept, whole[start..end].to_vec()));
        }
        first += length;
    }
    let reading = Reading {
        warm_up: 0,
        tile: WINDOW,
    };
    let mut found: Vec<Vec<Piece>> = vec![Vec::new(); windows.len()];
    boundaries::read(
        engine,
        &windows,
        &[strand],
        reading,
        &mut |window, _, piece| {
            found[window].push(piece);
            Ok(())
        },
    )?;
    let mut tally = Tally::with_size(engine.stages(), STRETCH);
    for (piece, (kept, marks)) in found.into_iter().filter_map(joined).zip(&marked) {
        let from = match strand {
            Strand::Forward => piece.information.len() - kept,
            Strand::Reverse => 0,
        };
        let part = from..from + kept;
        let mut starts = vec![0u8; *kept];
        for (stage, values) in piece.stages.iter().enumerate() {
            for (slot, &start) in starts.iter_mut().zip(&values.start[part.clone()]) {
                *slot |= u8::from(start) << stage;
            }
        }
        tally.add(
            marks,
            &starts,
            &piece.information[part.clone()],
            &piece.entropy[part],
        );
        tally.end_contig();
    }
    Ok((0..engine.stages())
        .map(|stage| tally.rates(stage))
        .collect())
}

/// The pieces of one window as one.
fn joined(mut pieces: Vec<Piece>) -> Option<Piece> {
    pieces.sort_unstable_by_key(|piece| piece.start);
    pieces.into_iter().reduce(|mut whole, next| {
        whole.information.extend(next.information);
        whole.entropy.extend(next.entropy);
        for (stage, next) in whole.stages.iter_mut().zip(next.stages) {
            stage.prob.extend(next.prob);
            stage.start.extend(next.start);
        }
        whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::marks::Mark;

    #[test]
    fn random_order_keeps_the_overall_rate_and_loses_the_phase() {
        let marks: Vec<u16> = (0..3_000)
            .map(|i| Mark::All.bit() | if i % 3 == 0 { Mark::Codon1.bit() } else { 0 })
            .collect();
        for strand in [Strand::Forward, Strand::Reverse] {
            let mut random = Random::new(1, 3_000);
            // Every chunk starts at a first position, with lengths of 3 and 6.
            let lengths: Vec<u32> = (0..666).map(|i| 3 + 3 * (i % 2)).chain([1, 2]).collect();
            random.add(lengths, &marks, 0, strand);
            let rates = random.rates();
            assert!((rates[0].rate.value - 668.0 / 3_000.0).abs() < 1e-9);
            assert_eq!(rates[0].rate.low, rates[0].rate.high);
            assert!(rates[1].rate.low < rates[1].rate.high);
        }
    }

    #[test]
    fn shuffled_windows_have_the_marks_of_their_place() {
        let engine = crate::engine::tests::engine();
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("g.fna");
        let bases: String = (0u32..20_000)
            .map(|i| char::from(b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 4]))
            .collect();
        std::fs::write(&path, format!(">c\n{bases}\n>tiny\nAC\n")).expect("written");
        let genome = Genome::read(&path).expect("read");
        for strand in [Strand::Forward, Strand::Reverse] {
            let rates = shuffled(&engine, &genome, None, strand, 9_000).expect("run");
            assert_eq!(rates.len(), 1);
            assert_eq!((rates[0].len(), rates[0][0].bases), (1, 2 * WINDOW as u64));
            assert_eq!(
                shuffled(&engine, &genome, None, strand, 9_000).expect("run"),
                rates
            );
        }
    }
}
