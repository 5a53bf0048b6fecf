//! How a model does beyond the length that it was trained on: bits per base by position,
//! how far back its predictions reach, and the size of its states.
//!
//! The measures are those of the work on unexplored states (Buitrago Ruiz and Gu 2025). Each
//! base is read twice: with the state of all that came before it in its sequence, and in a
//! window of the trained length that begins from nothing. A model that loses nothing over
//! length does as well in the first way as in the second.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use cistron_genome::corpus::genome_name;
use cistron_genome::fasta::Genome;
use cistron_model::{HNet, State};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::engine::Engine;
use crate::error::ScoreError;

/// How sequences are read.
#[derive(Debug, Clone)]
pub struct LengthOptions {
    /// Bases that the model was trained on at a time.
    pub trained: usize,
    /// How many times as long the sequences are; a power of two.
    pub times: usize,
    /// Sequences, evenly spaced over the longest contig.
    pub sequences: usize,
}

/// What was found on one genome.
#[derive(Debug, Clone, Serialize)]
pub struct LengthReport {
    /// File.
    pub file: String,
    /// Name of the genome.
    pub name: String,
    /// Bases that the model was trained on at a time.
    pub trained: usize,
    /// Sequences read.
    pub sequences: usize,
    /// Bases of each sequence.
    pub length: usize,
    /// Bits per base by position, from the beginning on.
    pub positions: Vec<Bin>,
    /// Bits per base of the last bin, less those of the same bases in fresh windows: what the
    /// length costs.
    pub degradation: f64,
    /// Effective remembrance at the end of four times the trained length.
    pub remembrance: Vec<Remembrance>,
    /// Sizes of scan states.
    pub norms: Vec<Norms>,
}

/// Bits per base of the positions `from..to` of the sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// First position, from 0.
    pub from: usize,
    /// One past the last.
    pub to: usize,
    /// Bases of A, C, G and T.
    pub bases: u64,
    /// Bits per base, with the state of all before.
    pub bits_per_base: f64,
    /// The same bases in windows of the trained length, each told from half of it at least.
    pub fresh_bits_per_base: f64,
}

/// How much the next base's probabilities change when the model sees the end alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remembrance {
    /// Bases before the prediction that are seen.
    pub seen: usize,
    /// Bases that are hidden, being further back.
    pub hidden: usize,
    /// Total variation distance to the prediction from all bases, 0 to 1: mean over sequences.
    pub distance: f64,
}

/// Mean norm of the heads' scan states after some bases, by layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Norms {
    /// Bases read.
    pub position: usize,
    /// Euclidean norm, mean over heads and sequences.
    pub layers: BTreeMap<String, f64>,
}

/// Sums of one sequence.
struct Reading {
    nats: Vec<f64>,
    fresh: Vec<f64>,
    bases: Vec<u64>,
    distances: Vec<f64>,
    norms: Vec<Vec<(String, f64)>>,
}

/// Ends of the bins: quarters of the trained length, then doublings.
fn ends(trained: usize, times: usize) -> Vec<usize> {
    let mut ends = vec![trained / 4, trained / 2, trained];
    while ends[ends.len() - 1] < trained * times {
        ends.push(2 * ends[ends.len() - 1]);
    }
    ends
}

/// Lengths of the suffixes that effective remembrance is measured with, ascending.
fn suffixes(total: usize) -> Vec<usize> {
    let doublings = std::iter::successors(Some(1), |n| Some(2 * n));
    doublings.take_while(|n| *n < total).collect()
}

/// Reads a genome; `progress` hears of the sequences done.
///
/// # Errors
///
/// A setting is outside its range, the longest contig is too short, a likelihood is not
/// finite, or there is no A, C, G or T.
pub fn evaluate(
    engine: &Engine,
    genome: &Genome,
    options: &LengthOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LengthReport, ScoreError> {
    let file = genome.path.display().to_string();
    if options.trained < 8 || !options.times.is_power_of_two() || options.sequences == 0 {
        return Err(ScoreError::Setting(
            "expected a trained length of 8 or more, a power of two as --times, and a sequence"
                .into(),
        ));
    }
    let trained = options.trained / 4 * 4;
    let longest = genome.contigs.iter().map(|contig| contig.bases.as_slice());
    let longest = longest.max_by_key(|bases| bases.len()).unwrap_or_default();
    let mut times = options.times;
    while times > 1 && trained * times > longest.len() {
        times /= 2;
    }
    if trained * times > longest.len() {
        let found = longest.len();
        return Err(ScoreError::Setting(format!(
            "{file}: the longest contig has {found} bases; expected {trained} at least, the \
             trained length (--trained)"
        )));
    }
    let length = trained * times;
    let room = longest.len() - length;
    let count = options.sequences.min(room + 1);
    let starts: Vec<usize> = (0..count).map(|i| room * i / (count - 1).max(1)).collect();
    let reader = Reader {
        engine,
        trained,
        ends: ends(trained, times),
        remembered: length.min(4 * trained),
    };
    let mut readings = Vec::with_capacity(count);
    for batch in starts.chunks(engine.threads()) {
        readings.extend(engine.map(batch, |model, start| {
            reader.sequence(model, &longest[*start..start + length])
        })?);
        progress(readings.len() as u64, count as u64);
    }
    reader
        .report(genome, &readings)
        .ok_or(ScoreError::NoBases { file })
}

struct Reader<'a> {
    engine: &'a Engine,
    trained: usize,
    ends: Vec<usize>,
    /// Bases that effective remembrance is measured over.
    remembered: usize,
}

impl Reader<'_> {
    fn sequence(&self, model: &HNet, bases: &[u8]) -> Result<Reading, ScoreError> {
        let mut reading = Reading {
            nats: vec![0.0; self.ends.len()],
            fresh: vec![0.0; self.ends.len()],
            bases: vec![0; self.ends.len()],
            distances: Vec::new(),
            norms: Vec::new(),
        };
        let mut state: Option<State> = None;
        let mut whole = None;
        let mut from = 0;
        for &end in &self.ends {
            // Pieces are no longer than the trained length.
            let stop = self.trained.min(end - from).max(1);
            while from < end {
                let piece = &bases[from..end.min(from + stop)];
                let before = from.checked_sub(1).map(|i| bases[i]);
                let (values, last, next) = self.read(model, before, piece, state.as_ref())?;
                self.add(&mut reading.nats, from, piece, &values);
                from += piece.len();
                if from == self.remembered {
                    whole = Some(last);
                }
                state = Some(next);
            }
            let norms = state.iter().flat_map(State::scan_norms);
            let mean =
                |(name, norm): (String, Tensor)| (name, norm.mean(Kind::Float).double_value(&[]));
            reading.norms.push(norms.map(mean).collect());
        }
        for (bin, (from, to)) in self.bins().enumerate() {
            let real = bases[from..to].iter().filter(|base| is_real(**base));
            reading.bases[bin] = real.count() as u64;
        }
        self.fresh(model, bases, &mut reading.fresh)?;
        if let Some(whole) = whole {
            for seen in suffixes(self.remembered) {
                let suffix = &bases[self.remembered - seen..self.remembered];
                let before = bases[self.remembered - seen - 1];
                // Nothing is known of what is hidden, and so no token begins the sequence.
                let (_, last, _) = self.read(model, Some(before), suffix, None)?;
                let distance = (last - &whole).abs().sum(Kind::Float) / 2.0;
                reading.distances.push(distance.double_value(&[]));
            }
        }
        Ok(reading)
    }

    /// Bins as positions.
    fn bins(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied())
    }

    /// Adds the values of bases from position `from` on to their bins.
    fn add(&self, sums: &mut [f64], from: usize, bases: &[u8], values: &[f32]) {
        for (i, (base, value)) in bases.iter().zip(values).enumerate() {
            if is_real(*base) {
                let bin = self.ends.partition_point(|end| *end <= from + i);
                sums[bin] -= f64::from(*value);
            }
        }
    }

    /// The bases again, in windows of the trained length that overlap by half.
    fn fresh(&self, model: &HNet, bases: &[u8], sums: &mut [f64]) -> Result<(), ScoreError> {
        let half = self.trained / 2;
        for start in (0..bases.len()).step_by(half) {
            let from = start.saturating_sub(half);
            let end = bases.len().min(start + half);
            let (values, ..) = self.read(model, None, &bases[from..end], None)?;
            let (counted, values) = (&bases[start..end], &values[start - from..]);
            self.add(sums, start, counted, values);
        }
        Ok(())
    }

    /// Log-likelihoods of `bases` after the token of `before` (the beginning token when there
    /// is none), the probabilities of what follows them, and the state after all but the last.
    fn read(
        &self,
        model: &HNet,
        before: Option<u8>,
        bases: &[u8],
        state: Option<&State>,
    ) -> Result<(Vec<f32>, Tensor, State), ScoreError> {
        let alphabet = self.engine.alphabet();
        let encode = |base: u8| i64::from(alphabet.encode(base));
        let first = before.map_or(i64::from(alphabet.bos()), encode);
        let targets: Vec<i64> = bases.iter().map(|base| encode(*base)).collect();
        let tokens: Vec<i64> = std::iter::once(first)
            .chain(targets[..targets.len() - 1].iter().copied())
            .collect();
        let lengths = [tokens.len() as i64];
        let (output, next) = model.forward_from(&Tensor::from_slice(&tokens), &lengths, state);
        let scores = output.logits.log_softmax(-1, Kind::Float);
        let targets = Tensor::from_slice(&targets)
            .to_device(scores.device())
            .unsqueeze(1);
        let values = scores.gather(1, &targets, false).squeeze_dim(1);
        let values = Vec::<f32>::try_from(values.to_device(Device::Cpu))
            .expect("an fp32 tensor of one dimension");
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(ScoreError::NotFinite {
                base: at + 1,
                length: bases.len(),
                value: values[at],
            });
        }
        let last = scores.get(lengths[0] - 1).exp();
        Ok((values, last, next))
    }

    fn report(&self, genome: &Genome, readings: &[Reading]) -> Option<LengthReport> {
        let sum = |pick: &dyn Fn(&Reading) -> f64| readings.iter().map(pick).sum::<f64>();
        let count = readings.len() as f64;
        let positions: Vec<Bin> = self
            .bins()
            .enumerate()
            .map(|(bin, (from, to))| {
                let bases = readings.iter().map(|reading| reading.bases[bin]).sum();
                let bits = |nats: f64| nats / LN_2 / (bases as f64).max(1.0);
                Bin {
                    from,
                    to,
                    bases,
                    bits_per_base: bits(sum(&|reading| reading.nats[bin])),
                    fresh_bits_per_base: bits(sum(&|reading| reading.fresh[bin])),
                }
            })
            .collect();
        let remembrance = suffixes(self.remembered)
            .into_iter()
            .enumerate()
            .map(|(i, seen)| Remembrance {
                seen,
                hidden: self.remembered - seen,
                distance: sum(&|reading| reading.distances[i]) / count,
            })
            .collect();
        let norms = self.ends.iter().enumerate().map(|(i, &position)| {
            let mut layers: BTreeMap<String, f64> = BTreeMap::new();
            for (name, norm) in readings.iter().flat_map(|reading| &reading.norms[i]) {
                *layers.entry(name.clone()).or_default() += norm / count;
            }
            Norms { position, layers }
        });
        let last = positions.last().filter(|bin| bin.bases > 0)?;
        Some(LengthReport {
            file: genome.path.display().to_string(),
            name: genome_name(&genome.path),
            trained: self.trained,
            sequences: readings.len(),
            length: last.to,
            degradation: last.bits_per_base - last.fresh_bits_per_base,
            norms: norms.collect(),
            positions,
            remembrance,
        })
    }
}

fn is_real(base: u8) -> bool {
    matches!(base, b'A' | b'C' | b'G' | b'T')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;

    fn genome(bases: &str) -> Genome {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("g.fna");
        std::fs::write(&path, format!(">short\nAC\n>long\n{bases}\n")).expect("writable");
        Genome::read(&path).expect("valid")
    }

    fn options(times: usize, sequences: usize) -> LengthOptions {
        LengthOptions {
            trained: 8,
            times,
            sequences,
        }
    }

    #[test]
    fn bases_are_those_of_one_pass_over_the_whole() {
        let engine = engine();
        let bases: String = "ACGGTTANCATTGCA".chars().cycle().take(64).collect();
        let report =
            evaluate(&engine, &genome(&bases), &options(8, 1), &mut |_, _| {}).expect("a report");
        let all = engine
            .log_likelihoods(&[bases.as_bytes()])
            .expect("read")
            .remove(0);
        assert_eq!(report.length, 64);
        let edges: Vec<(usize, usize)> = report.positions.iter().map(|b| (b.from, b.to)).collect();
        assert_eq!(edges, [(0, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]);
        for bin in &report.positions {
            let real = |i: &usize| is_real(bases.as_bytes()[*i]);
            let counted: Vec<usize> = (bin.from..bin.to).filter(real).collect();
            let nats: f64 = counted.iter().map(|i| -f64::from(all[*i])).sum();
            assert_eq!(bin.bases, counted.len() as u64);
            let expected = nats / LN_2 / counted.len() as f64;
            assert!(
                (bin.bits_per_base - expected).abs() < 1e-4,
                "{bin:?} {expected}"
            );
        }
        // Within the trained length there is one window, which is the sequence itself.
        let first = &report.positions[0];
        assert!((first.bits_per_base - first.fresh_bits_per_base).abs() < 1e-5);
        assert_eq!(report.norms.len(), 6);
        assert_eq!(report.norms[0].layers.len(), 2);
        let seen: Vec<usize> = report.remembrance.iter().map(|r| r.seen).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16]);
        assert!(
            report
                .remembrance
                .iter()
                .all(|r| (0.0..=1.0).contains(&r.distance))
        );
    }

    #[test]
    fn short_contigs_are_read_less_far_or_refused() {
        let engine = engine();
        let read = |bases: &str| evaluate(&engine, &genome(bases), &options(64, 3), &mut |_, _| {});
        let report = read(&"ACGTC".repeat(10)).expect("a report");
        assert_eq!((report.length, report.sequences), (32, 3));
        let error = read("ACGTACG").expect_err("too short").to_string();
        assert!(error.contains("7 bases"), "{error}");
        assert!(read(&"N".repeat(40)).is_err());
    }
}
