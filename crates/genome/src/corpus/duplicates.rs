//! Genomes of a corpus that are nearly the same, found by MinHash sketches of their k-mers.
//!
//! A validation genome with a near-duplicate among the training genomes measures memory and
//! not learning. The sketch of a genome is its [`SKETCH`] smallest k-mer hashes; from the
//! share of hashes that two genomes have in common follows the share of equal bases (Ondov
//! et al. 2016, Mash, equation 4).

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Serialize;

use super::{Corpus, CorpusError, Split};
use crate::alphabet::Alphabet;

/// Length of a k-mer, bases.
const K: usize = 21;
/// Hashes kept of each genome.
const SKETCH: usize = 2000;
/// The bits of a k-mer, two a base.
const MASK: u64 = (1 << (2 * K)) - 1;
/// Bases read at a time.
const PIECE: u64 = 1 << 16;

/// Two genomes that are nearly the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearDuplicate {
    /// Name of the one.
    pub first: String,
    /// Name of the other.
    pub second: String,
    /// Estimated share of equal bases, 0 to 1.
    pub identity: f64,
    /// Whether one is to train on and the other to validate on.
    pub across_splits: bool,
}

/// What is done with near-duplicates when a corpus is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// They stay, and share the sampling weight of one genome.
    #[default]
    Report,
    /// One genome of each cluster stays: the first one for validation, else the longest.
    Drop,
    /// A cluster with a genome for validation is for validation as a whole.
    Together,
}

impl Corpus {
    /// The pairs of genomes whose estimated share of equal bases is at least
    /// `min_identity`, the most alike first. Genomes of one species usually share 0.95 and
    /// more. The estimate is of whole genomes: a plasmid within a genome is not found.
    /// Every base is read once, genomes side by side, and two thousand hashes are kept of each.
    ///
    /// # Errors
    /// When the corpus cannot be read.
    pub fn near_duplicates(&self, min_identity: f64) -> Result<Vec<NearDuplicate>, CorpusError> {
        Ok(self.named(&self.alike(min_identity)?))
    }

    /// Pairs of genomes with their names, the most alike first.
    pub(super) fn named(&self, pairs: &[(usize, usize, f64)]) -> Vec<NearDuplicate> {
        let genomes = self.genomes();
        let mut found: Vec<NearDuplicate> = pairs
            .iter()
            .map(|&(i, j, identity)| NearDuplicate {
                first: genomes[i].name.clone(),
                second: genomes[j].name.clone(),
                identity,
                across_splits: genomes[i].split != genomes[j].split,
            })
            .collect();
        found.sort_by(|a, b| b.identity.total_cmp(&a.identity));
        found
    }

    /// Indices of near-duplicates with their identities, in corpus order.
    pub(super) fn alike(&self, least: f64) -> Result<Vec<(usize, usize, f64)>, CorpusError> {
        let sketches = (0..self.genomes().len())
            .into_par_iter()
            .with_max_len(1)
            .map(|genome| self.sketch(genome))
            .collect::<Result<Vec<_>, _>>()?;
        let pairs = (0..sketches.len()).flat_map(|i| (i + 1..sketches.len()).map(move |j| (i, j)));
        let all = pairs.map(|(i, j)| (i, j, identity(&sketches[i], &sketches[j])));
        Ok(all.filter(|(.., identity)| *identity >= least).collect())
    }

    fn sketch(&self, genome: usize) -> Result<BTreeSet<u64>, CorpusError> {
        let mut sketch = Sketch::default();
        let mut bases = Vec::new();
        for i in 0..self.genomes()[genome].contigs.len() {
            let contig = self.contig(genome, i);
            sketch.begin_contig();
            for start in (0..contig.len()).step_by(PIECE as usize) {
                contig.read(start..contig.len().min(start + PIECE), &mut bases)?;
                sketch.add(&bases);
            }
        }
        Ok(sketch.smallest)
    }
}

/// Groups of genomes that are linked by near-duplicates, each in ascending order; genomes
/// without one are groups of their own.
pub(super) fn clusters(genomes: usize, pairs: &[(usize, usize, f64)]) -> Vec<Vec<usize>> {
    let mut leader: Vec<usize> = (0..genomes).collect();
    for &(i, j, _) in pairs {
        let (one, other) = (leader[i].min(leader[j]), leader[i].max(leader[j]));
        leader
            .iter_mut()
            .filter(|leader| **leader == other)
            .for_each(|leader| *leader = one);
    }
    let members = |of: usize| (0..genomes).filter(|i| leader[*i] == of).collect();
    (0..genomes)
        .filter(|i| leader[*i] == *i)
        .map(members)
        .collect()
}

/// The genome of a cluster that stays when the others are dropped.
pub(super) fn representative(cluster: &[usize], of: impl Fn(usize) -> (Split, u64)) -> usize {
    let validation = cluster.iter().find(|i| of(**i).0 == Split::Val);
    // The last of equals in reverse order is the first.
    let longest = cluster.iter().rev().max_by_key(|i| of(**i).1);
    *validation
        .or(longest)
        .expect("a cluster has a genome at least")
}

/// Gathers the smallest hashes of k-mers, each the same as its reverse complement.
#[derive(Default)]
struct Sketch {
    smallest: BTreeSet<u64>,
    /// Hashes from here on are too large.
    limit: Option<u64>,
    forward: u64,
    reverse: u64,
    /// Bases since the contig began or since the last that was not A, C, G or T.
    filled: usize,
}

impl Sketch {
    fn begin_contig(&mut self) {
        self.filled = 0;
    }

    fn add(&mut self, bases: &[u8]) {
        for &base in bases {
            let code = u64::from(Alphabet::Dna.encode(base));
            if code > 3 {
                self.filled = 0;
                continue;
            }
            self.forward = (self.forward << 2 | code) & MASK;
            self.reverse = self.reverse >> 2 | (3 - code) << (2 * (K - 1));
            self.filled += 1;
            if self.filled >= K {
                let hash = mix(self.forward.min(self.reverse));
                if self.limit.is_none_or(|limit| hash < limit) {
                    self.keep(hash);
                }
            }
        }
    }

    fn keep(&mut self, hash: u64) {
        self.smallest.insert(hash);
        if self.smallest.len() > SKETCH {
            self.smallest.pop_last();
        }
        if self.smallest.len() == SKETCH {
            self.limit = self.smallest.last().copied();
        }
    }
}

/// Scatters k-mers: the finaliser of SplitMix64, which maps distinct values to distinct ones.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Estimated share of equal bases of two genomes.
fn identity(one: &BTreeSet<u64>, other: &BTreeSet<u64>) -> f64 {
    let union: Vec<&u64> = one.union(other).take(SKETCH).collect();
    let shared = union
        .iter()
        .filter(|hash| one.contains(hash) && other.contains(hash));
    let shared = shared.count() as f64;
    if shared == 0.0 {
        return 0.0;
    }
    let jaccard = shared / union.len() as f64;
    (1.0 + (2.0 * jaccard / (1.0 + jaccard)).ln() / K as f64).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::CorpusBuilder;
    use crate::revcomp;

    /// Bases from a fixed congruential sequence.
    fn random(len: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
            b"ACGT"[(seed >> 62) as usize]
        };
        (0..len).map(|_| next()).collect()
    }

    /// About one base in `one_in` changed, here and there.
    fn mutated(bases: &[u8], one_in: u64) -> Vec<u8> {
        let mut bases = bases.to_vec();
        for (i, base) in bases.iter_mut().enumerate() {
            if mix(i as u64).is_multiple_of(one_in) {
                *base = if *base == b'A' { b'C' } else { b'A' };
            }
        }
        bases
    }

    fn sketch(bases: &[u8], piece: usize) -> BTreeSet<u64> {
        let mut sketch = Sketch::default();
        sketch.begin_contig();
        bases.chunks(piece).for_each(|part| sketch.add(part));
        sketch.smallest
    }

    #[test]
    fn strand_and_pieces_do_not_matter() {
        let bases = random(20_000, 1);
        let whole = sketch(&bases, 20_000);
        assert_eq!(whole.len(), SKETCH);
        assert_eq!(whole, sketch(&bases, 7));
        assert_eq!(whole, sketch(&revcomp(&bases), 100));
        assert_eq!(identity(&whole, &whole), 1.0);
    }

    #[test]
    fn a_sketch_is_the_smallest_hashes() {
        let bases = random(6_000, 3);
        let hashes: BTreeSet<u64> = bases
            .windows(K)
            .map(|kmer| {
                let code = |bases: &[u8]| {
                    let codes = bases.iter().map(|base| Alphabet::Dna.encode(*base));
                    codes.fold(0, |all, code| all << 2 | u64::from(code))
                };
                mix(code(kmer).min(code(&revcomp(kmer))))
            })
            .collect();
        let smallest: BTreeSet<u64> = hashes.into_iter().take(SKETCH).collect();
        assert_eq!(sketch(&bases, 1000), smallest);
    }

    #[test]
    fn other_codes_break_kmers() {
        let bases = [b"A".repeat(K - 1), b"N".repeat(50), b"C".repeat(K)].concat();
        assert_eq!(sketch(&bases, 9), BTreeSet::from([mix((1 << (2 * K)) / 3)]));
    }

    #[test]
    fn no_kmer_spans_two_contigs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, format!(">x\n{}\n>y\nC\n", "A".repeat(K))).unwrap();
        let builder = CorpusBuilder::new().fasta(path);
        let corpus = builder.build(&folder.path().join("corpus")).unwrap();
        assert_eq!(corpus.sketch(0).unwrap(), BTreeSet::from([mix(0)]));
    }

    #[test]
    fn clusters_are_linked_genomes() {
        let pairs = [(0, 3, 0.99), (3, 4, 0.98), (1, 2, 0.97)];
        assert_eq!(clusters(6, &pairs), [vec![0, 3, 4], vec![1, 2], vec![5]]);
        let of = |i: usize| (Split::Train, [5, 9, 9, 1][i]);
        assert_eq!(representative(&[0, 1, 2], of), 1);
        let of = |i: usize| ([Split::Train, Split::Val][i / 2], 10 - i as u64);
        assert_eq!(representative(&[0, 2, 3], of), 2);
    }

    #[test]
    fn identity_is_estimated() {
        let bases = random(300_000, 5);
        let one = sketch(&bases, 1 << 16);
        for one_in in [100, 30, 15] {
            let other = sketch(&mutated(&bases, one_in), 1 << 16);
            let expected = 1.0 - 1.0 / one_in as f64;
            assert!(
                (identity(&one, &other) - expected).abs() < 0.005,
                "{one_in}"
            );
        }
        assert!(identity(&one, &sketch(&random(300_000, 6), 1 << 16)) < 0.8);
        assert_eq!(identity(&one, &BTreeSet::new()), 0.0);
    }

    #[test]
    fn near_duplicates_are_reported_across_splits() {
        let folder = tempfile::tempdir().unwrap();
        let bases = random(50_000, 7);
        let genomes = [
            ("a", bases.clone()),
            ("b", revcomp(&mutated(&bases, 200))),
            ("c", random(50_000, 8)),
        ];
        let mut builder = CorpusBuilder::new().validation(["b"]);
        for (name, bases) in genomes {
            let path = folder.path().join(format!("{name}.fna"));
            let text = [b">x\n".as_slice(), &bases, b"\n"].concat();
            std::fs::write(&path, text).unwrap();
            builder = builder.fasta(path);
        }
        let corpus = builder.build(&folder.path().join("corpus")).unwrap();
        let found = corpus.near_duplicates(0.95).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].first.as_str(), found[0].second.as_str()),
            ("a", "b")
        );
        assert!(found[0].across_splits && found[0].identity > 0.99);
    }
}
