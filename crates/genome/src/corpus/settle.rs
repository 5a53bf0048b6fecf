//! What becomes of near-duplicates, in a corpus that is written and not yet published.

use super::duplicates::{Duplicates, NearDuplicate, clusters, representative};
use super::manifest::{Manifest, Split};
use super::output::OutputFolder;
use super::packer::Packer;
use super::{BASES_FILE, Corpus, CorpusError, MANIFEST_FILE, RUNS_FILE};

/// What was found and done.
#[derive(Default)]
pub(super) struct Settled {
    pub near_duplicates: Vec<NearDuplicate>,
    pub dropped: Vec<String>,
}

/// Finds near-duplicates and writes what follows into the folder: clusters and sampling
/// weights, other splits, or fewer genomes.
pub(super) fn settle(
    folder: &OutputFolder,
    what: Duplicates,
    least: f64,
) -> Result<Settled, CorpusError> {
    let corpus = Corpus::open(folder.path())?;
    let mut manifest = corpus.manifest().clone();
    if manifest.genomes.len() < 2 {
        return Ok(Settled::default());
    }
    let pairs = corpus.alike(least)?;
    let near_duplicates = corpus.named(&pairs);
    let mut groups = clusters(manifest.genomes.len(), &pairs);
    groups.retain(|group| group.len() > 1);
    let mut dropped = Vec::new();
    if groups.is_empty() {
        return Ok(Settled::default());
    }
    if what == Duplicates::Drop {
        let of = |i: usize| (manifest.genomes[i].split, manifest.genomes[i].bases);
        for group in &groups {
            let kept = representative(group, of);
            dropped.extend(group.iter().copied().filter(|i| *i != kept));
        }
        manifest = without(&dropped, &corpus, folder)?;
    } else {
        groups
            .iter()
            .for_each(|group| mark(group, &mut manifest, what));
    }
    write_manifest(folder, &manifest)?;
    let name = |i: usize| corpus.genomes()[i].name.clone();
    Ok(Settled {
        near_duplicates,
        dropped: dropped.into_iter().map(name).collect(),
    })
}

/// Gives a cluster its name and weights, and one split where that is asked for.
fn mark(group: &[usize], manifest: &mut Manifest, what: Duplicates) {
    let genomes = &mut manifest.genomes;
    let validated = group.iter().any(|i| genomes[*i].split == Split::Val);
    if what == Duplicates::Together && validated {
        group.iter().for_each(|i| genomes[*i].split = Split::Val);
    }
    let cluster = genomes[group[0]].name.clone();
    for &i in group {
        let split = genomes[i].split;
        let share = group.iter().filter(|j| genomes[**j].split == split).count();
        genomes[i].cluster = Some(cluster.clone());
        genomes[i].weight = 1.0 / share as f64;
    }
}

/// Packs a corpus again without some of its genomes, in its own folder.
fn without(
    dropped: &[usize],
    corpus: &Corpus,
    folder: &OutputFolder,
) -> Result<Manifest, CorpusError> {
    let (bases, runs) = ("kept.2bit", "kept.bin");
    let mut packer = Packer::new(folder.file(bases)?, folder.file(runs)?);
    let kept = (0..corpus.genomes().len()).filter(|i| !dropped.contains(i));
    let genomes = kept
        .map(|genome| packer.copy_genome(corpus, genome))
        .collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest {
        packed_bytes: packer.packed_bytes(),
        runs: packer.runs(),
        genomes,
        ..corpus.manifest().clone()
    };
    packer.finish()?;
    folder.replace(bases, BASES_FILE)?;
    folder.replace(runs, RUNS_FILE)?;
    Ok(manifest)
}

/// Writes the manifest of a folder.
pub(super) fn write_manifest(
    folder: &OutputFolder,
    manifest: &Manifest,
) -> Result<(), CorpusError> {
    let mut file = folder.file(MANIFEST_FILE)?;
    let text =
        serde_json::to_vec_pretty(manifest).expect("a manifest has string keys and finite numbers");
    file.write(&text)?;
    file.write(b"\n")?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::corpus::CorpusBuilder;

    /// Bases from a congruential sequence.
    fn random(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            b"ACGT"[(state >> 62) as usize]
        };
        (0..len).map(|_| next()).collect()
    }

    /// Builds `a`, its longer twin `b` with a run of N, its twin `v` for validation, and `c`.
    fn build(what: Duplicates, validation: &[&str]) -> (Corpus, Vec<String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let bases = random(30_000, 1);
        let longer = [b"ACG".as_slice(), &bases, b"NNNNACGTAC"].concat();
        let genomes = [
            ("a", bases.clone()),
            ("b", longer),
            ("v", bases),
            ("c", random(30_000, 2)),
        ];
        let mut builder = CorpusBuilder::new()
            .validation(validation.iter().copied())
            .near_duplicates(what, 0.95);
        for (name, bases) in genomes {
            let path = folder.path().join(format!("{name}.fna"));
            let text = [b">x\n".as_slice(), &bases, b"\n>empty\n>y\nRYA\n"].concat();
            std::fs::write(&path, text).unwrap();
            builder = builder.fasta(path);
        }
        let out = folder.path().join("corpus");
        let built = builder.build_with(&out, |_| ()).unwrap();
        built.corpus.verify().unwrap();
        assert_eq!(built.near_duplicates.len(), 3);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3);
        (built.corpus, built.dropped, folder)
    }

    fn weights(corpus: &Corpus) -> BTreeMap<&str, (Split, f64)> {
        let genomes = corpus.genomes().iter();
        genomes
            .map(|genome| (genome.name.as_str(), (genome.split, genome.weight)))
            .collect()
    }

    #[test]
    fn clusters_share_the_weight_of_one_genome_within_their_split() {
        let (corpus, dropped, _folder) = build(Duplicates::Report, &["v"]);
        assert!(dropped.is_empty());
        let (train, val) = (Split::Train, Split::Val);
        let expected = [
            ("a", (train, 0.5)),
            ("b", (train, 0.5)),
            ("c", (train, 1.0)),
            ("v", (val, 1.0)),
        ];
        assert_eq!(weights(&corpus), BTreeMap::from(expected));
        let cluster = |i: usize| corpus.genomes()[i].cluster.as_deref();
        assert_eq!((cluster(2), cluster(3)), (Some("a"), None));
    }

    #[test]
    fn together_moves_the_cluster_to_validation() {
        let (corpus, dropped, _folder) = build(Duplicates::Together, &["v"]);
        assert!(dropped.is_empty());
        let splits: Vec<Split> = corpus.genomes().iter().map(|g| g.split).collect();
        assert_eq!(splits, [Split::Val, Split::Val, Split::Val, Split::Train]);
    }

    #[test]
    fn dropping_keeps_the_validation_genome_or_the_longest() {
        let names = |corpus: &Corpus| -> Vec<String> {
            corpus.genomes().iter().map(|g| g.name.clone()).collect()
        };
        let (corpus, dropped, _folder) = build(Duplicates::Drop, &["v"]);
        assert_eq!(
            (names(&corpus), dropped),
            (vec!["v".into(), "c".into()], vec!["a".into(), "b".into()])
        );
        let (corpus, _, _folder) = build(Duplicates::Drop, &[]);
        assert_eq!(names(&corpus), ["b", "c"]);
        let mut bases = Vec::new();
        let contig = corpus.contig(0, 0);
        contig.read(30_000..contig.len(), &mut bases).unwrap();
        assert!(bases.ends_with(b"NNNNACGTAC"));
    }
}
