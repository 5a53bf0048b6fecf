//! Figures about a corpus, from its manifest.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Corpus, GenomeEntry, Split};

/// Figures about a whole corpus.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CorpusStats {
    /// All genomes.
    pub total: SplitStats,
    /// Those to train on.
    pub train: SplitStats,
    /// Those to validate on.
    pub val: SplitStats,
    /// Names of genomes that are the same, contig for contig and base for base.
    pub identical: Vec<Vec<String>>,
    /// Names of near-duplicates, cluster by cluster.
    pub clusters: Vec<Vec<String>>,
}

/// Figures about some genomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SplitStats {
    /// Number of genomes.
    pub genomes: u64,
    /// Number of contigs.
    pub contigs: u64,
    /// Number of bases.
    pub bases: u64,
    /// (G + C) / (A + C + G + T); 0 when there is none of these.
    pub gc: f64,
    /// Number of bases other than A, C, G and T.
    pub ambiguous: u64,
}

impl Corpus {
    /// Counts up the manifest; no base is read.
    pub fn stats(&self) -> CorpusStats {
        let genomes = self.genomes();
        let of = |split| genomes.iter().filter(move |genome| genome.split == split);
        let mut same: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for genome in genomes {
            let names = same.entry(&genome.sha256).or_default();
            names.push(genome.name.clone());
        }
        let mut identical: Vec<_> = same.into_values().filter(|names| names.len() > 1).collect();
        identical.sort();
        let mut alike: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for genome in genomes {
            if let Some(cluster) = &genome.cluster {
                alike.entry(cluster).or_default().push(genome.name.clone());
            }
        }
        CorpusStats {
            total: SplitStats::of(genomes.iter()),
            train: SplitStats::of(of(Split::Train)),
            val: SplitStats::of(of(Split::Val)),
            identical,
            clusters: alike.into_values().collect(),
        }
    }
}

impl SplitStats {
    fn of<'a>(genomes: impl Iterator<Item = &'a GenomeEntry>) -> Self {
        let mut stats = Self::default();
        let mut gc = 0.0;
        for genome in genomes {
            stats.genomes += 1;
            stats.contigs += genome.contigs.len() as u64;
            stats.bases += genome.bases;
            stats.ambiguous += genome.ambiguous;
            gc += genome.gc * genome.bases.saturating_sub(genome.ambiguous) as f64;
        }
        stats.gc = gc / stats.bases.saturating_sub(stats.ambiguous).max(1) as f64;
        stats
    }
}
