//! Genomes of a corpus that are nearly the same, found by MinHash sketches of their k-mers.
//!
//! A validation genome with a near-duplicate among the training genomes measures memory and
//! not learning. The sketch of a genome is its [`SKETCH`] smallest k-mer hashes; from the
//! share of hashes that two genomes have in common follows the share of equal bases (Ondov
//! et al. 2016, Mash, equation 4).

use finch::distance::raw_distance;
use finch::sketch_schemes::mash::MashSketcher;
use finch::sketch_schemes::{KmerCount, SketchScheme};
use rayon::prelude::*;
use serde::Serialize;

use super::{Corpus, CorpusError, Split};

/// Length of a k-mer, bases.
const K: u8 = 21;
/// Hashes kept of each genome.
const SKETCH: usize = 2000;
/// Seed of the hashes, Mash's own.
const SEED: u64 = 42;
/// Bases read at a time.
const PIECE: u64 = 1 << 20;

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

    /// The smallest hashes of a genome's k-mers, each the same as its reverse complement.
    fn sketch(&self, genome: usize) -> Result<Vec<KmerCount>, CorpusError> {
        let mut sketch = MashSketcher::new(SKETCH, K, SEED);
        let mut bases = Vec::new();
        for i in 0..self.genomes()[genome].contigs.len() {
            let contig = self.contig(genome, i);
            for start in (0..contig.len()).step_by(PIECE as usize) {
                // k-mers that begin in this piece end in the next.
                let end = contig.len().min(start + PIECE + u64::from(K) - 1);
                contig.read(start..end, &mut bases)?;
                sketch.process(&bases.as_slice());
            }
        }
        Ok(sketch.to_vec())
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

/// Estimated share of equal bases of two genomes.
fn identity(one: &[KmerCount], other: &[KmerCount]) -> f64 {
    let (_, jaccard, shared, _) = raw_distance(one, other, 0.0);
    if shared == 0 {
        return 0.0;
    }
    (1.0 + (2.0 * jaccard / (1.0 + jaccard)).ln() / f64::from(K)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::CorpusBuilder;
    use crate::revcomp;

    /// Scatters values: the finaliser of SplitMix64.
    fn mix(value: u64) -> u64 {
        let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

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

    fn sketch(bases: &[u8]) -> Vec<KmerCount> {
        let mut sketch = MashSketcher::new(SKETCH, K, SEED);
        sketch.process(&bases);
        sketch.to_vec()
    }

    /// The hashes that a corpus of one genome, of these contigs, has.
    fn hashes(contigs: &[&[u8]]) -> Vec<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        let text: Vec<u8> = contigs
            .iter()
            .enumerate()
            .flat_map(|(i, bases)| [format!(">{i}\n").as_bytes(), bases, b"\n"].concat())
            .collect();
        std::fs::write(&path, text).unwrap();
        let builder = CorpusBuilder::new().fasta(path);
        let corpus = builder.build(&folder.path().join("corpus")).unwrap();
        let sketch = corpus.sketch(0).unwrap();
        sketch.iter().map(|kmer| kmer.hash).collect()
    }

    #[test]
    fn strand_and_pieces_do_not_matter() {
        let bases = random(2 * PIECE as usize + 30, 1);
        let whole: Vec<u64> = sketch(&bases).iter().map(|kmer| kmer.hash).collect();
        assert_eq!(whole.len(), SKETCH);
        assert_eq!(whole, hashes(&[&bases]));
        assert_eq!(whole, hashes(&[&revcomp(&bases)]));
    }

    #[test]
    fn no_kmer_spans_two_contigs_or_other_codes() {
        let k = usize::from(K);
        let a = b"A".repeat(k);
        let broken = [&a[1..], &b"N".repeat(50), &b"C".repeat(k - 1)].concat();
        assert_eq!(hashes(&[&a, &broken, b"C"]), hashes(&[&a]));
        assert_eq!(hashes(&[&a]).len(), 1);
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
        let one = sketch(&bases);
        assert_eq!(identity(&one, &one), 1.0);
        for one_in in [100, 30, 15] {
            let other = sketch(&mutated(&bases, one_in));
            let expected = 1.0 - 1.0 / one_in as f64;
            assert!(
                (identity(&one, &other) - expected).abs() < 0.005,
                "{one_in}"
            );
        }
        assert!(identity(&one, &sketch(&random(300_000, 6))) < 0.8);
        assert_eq!(identity(&one, &[]), 0.0);
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
