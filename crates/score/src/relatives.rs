//! Related genomes beside a model: where what was read aligns with one, the next base may be copied from it.
//!
//! The places that are followed are the copy experts of Cao, Dix, Allison and Mears 2007 ("A simple
//! statistical algorithm for biological sequence compression", DCC). They are found by a spaced
//! seed (Ma, Tromp and Li 2002) that leaves out every third base, where codons change most.
//! With `h` the share of a copy's latest bases that were right, by its three phases, and
//! `q = (h - 1/4) / (3/4)`, its odds are `q / (1 - q)`, and a base has the probability
//! `(model + sum of the odds of copies that say so) / (1 + sum of all odds)`: these add up to
//! one where the model's do, and are the model's where nothing aligns.

use cistron_genome::fasta::Contig;

use crate::ScoreError;
use crate::engine::{Branch, Read, STEP};

mod copies;

use copies::{Copies, OTHER, SPAN, Words, code, is_at};

/// Genomes with an index of their seeds: 5 bytes a base, and 64 MiB at most.
#[derive(Debug)]
pub struct Relatives {
    /// A, C, G, T as 0 to 3; [`OTHER`] for the rest, before, between and after contigs.
    codes: Vec<u8>,
    /// Where the places of each bucket of seeds start, and the end of the last.
    starts: Vec<u32>,
    /// First bases of seeds, by bucket.
    places: Vec<u32>,
    /// Bits that a hash is shifted by to name its bucket.
    shift: u32,
}

impl Relatives {
    /// Indexes `contigs`.
    ///
    /// # Errors
    ///
    /// They have 2^32 bases or more.
    pub fn of(contigs: Vec<Contig>) -> Result<Self, ScoreError> {
        let mut codes = vec![OTHER];
        for contig in contigs {
            codes.extend(contig.bases.iter().map(|&base| code(base)));
            codes.push(OTHER);
        }
        if u32::try_from(codes.len()).is_err() {
            let problem = "relatives: expected fewer than 4,294,967,296 bases; name fewer genomes";
            return Err(ScoreError::Setting(problem.into()));
        }
        let bits = codes.len().ilog2().clamp(8, 24);
        let shift = u64::BITS - bits;
        let seeds = || {
            let mut words = Words::default();
            (0u32..).zip(&codes).filter_map(move |(at, &code)| {
                words.push(code);
                let (seed, _) = words.seeds()?;
                Some((bucket(seed, shift), at + 1 - SPAN as u32))
            })
        };
        let mut starts = vec![0u32; (1 << bits) + 1];
        seeds().for_each(|(bucket, _)| starts[bucket + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut places = vec![0; starts.last().map_or(0, |&count| count as usize)];
        let mut next = starts.clone();
        for (bucket, place) in seeds() {
            places[next[bucket] as usize] = place;
            next[bucket] += 1;
        }
        Ok(Self {
            codes,
            starts,
            places,
            shift,
        })
    }

    /// First bases of where `seed` lies.
    fn places(&self, seed: u64) -> impl Iterator<Item = usize> {
        let bucket = bucket(seed, self.shift);
        let (start, end) = (
            self.starts[bucket] as usize,
            self.starts[bucket + 1] as usize,
        );
        let places = self.places[start..end].iter().map(|&place| place as usize);
        places.filter(move |&place| is_at(seed, &self.codes[place..place + SPAN]))
    }

    /// Turns the model's log-likelihoods of a branch into those with relatives.
    pub(crate) fn mix(&self, branch: &Branch, read: &mut Read) {
        let mut copies = Copies::default();
        branch
            .prefix
            .iter()
            .for_each(|&base| copies.push(self, code(base)));
        for step in 0.. {
            for (tail, values) in branch.tails.iter().zip(&mut read.tails) {
                if tail.step == step {
                    self.mix_on(&mut copies.clone(), &tail.bases, values);
                }
            }
            let start = step * STEP;
            if start >= branch.reference.len() {
                break;
            }
            let end = branch.reference.len().min(start + STEP);
            let values = &mut read.reference[start..end];
            self.mix_on(&mut copies, &branch.reference[start..end], values);
        }
    }

    /// As [`Relatives::mix`], of a sequence from its beginning on.
    pub(crate) fn mix_whole(&self, bases: &[u8], values: &mut [f32]) {
        self.mix_on(&mut Copies::default(), bases, values);
    }

    fn mix_on(&self, copies: &mut Copies, bases: &[u8], values: &mut [f32]) {
        for (&base, value) in bases.iter().zip(values) {
            let code = code(base);
            *value = copies.mix(self, code, *value);
            copies.push(self, code);
        }
    }
}

/// The bucket of a seed: the upper bits of its product with 2^64 over the golden ratio.
fn bucket(seed: u64, shift: u32) -> usize {
    (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
}

#[cfg(test)]
mod tests;
