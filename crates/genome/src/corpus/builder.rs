//! FASTA files into a corpus, in one pass. Memory grows with the number of contigs, whose
//! names must be remembered, and not with the number of bases.

use std::path::{Path, PathBuf};

use super::duplicates::{Duplicates, NearDuplicate};
use super::manifest::{FORMAT, GenomeEntry, Manifest, Split};
use super::output::OutputFolder;
use super::packer::Packer;
use super::settle::{settle, write_manifest};
use super::{BASES_FILE, Corpus, CorpusError, RUNS_FILE, codons};
use crate::names;

/// Endings of FASTA file names, which are no part of a genome's name.
const FASTA_ENDINGS: [&str; 6] = [".fna", ".fa", ".fasta", ".ffn", ".fas", ".fsa"];

/// Gathers genomes and builds a corpus of them.
#[derive(Clone, Debug)]
pub struct CorpusBuilder {
    pub(super) genomes: Vec<Input>,
    validation: Vec<String>,
    lineages: Vec<String>,
    duplicates: Duplicates,
    min_identity: f64,
    codons: bool,
    force: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Input {
    pub name: String,
    pub path: PathBuf,
    pub split: Split,
    pub lineage: String,
    pub annotation: Option<PathBuf>,
}

/// A built corpus, and what was found on the way.
#[derive(Debug)]
pub struct Built {
    /// The corpus.
    pub corpus: Corpus,
    /// Pairs of near-duplicates before anything was done about them, the most alike first.
    pub near_duplicates: Vec<NearDuplicate>,
    /// Names of the genomes that were dropped.
    pub dropped: Vec<String>,
}

impl Default for CorpusBuilder {
    fn default() -> Self {
        Self {
            genomes: Vec::new(),
            validation: Vec::new(),
            lineages: Vec::new(),
            duplicates: Duplicates::default(),
            min_identity: Self::ALIKE,
            codons: false,
            force: false,
        }
    }
}

impl CorpusBuilder {
    /// Share of equal bases from which genomes are near-duplicates, unless told otherwise.
    pub const ALIKE: f64 = 0.95;

    /// No genomes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a FASTA file as a training genome with the name [`genome_name`] gives it.
    #[must_use]
    pub fn fasta(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.genome(genome_name(&path), path, Split::Train)
    }

    /// Adds a FASTA file under a name of the caller's.
    #[must_use]
    pub fn genome(
        mut self,
        name: impl Into<String>,
        path: impl Into<PathBuf>,
        split: Split,
    ) -> Self {
        self.genomes.push(Input {
            name: name.into(),
            path: path.into(),
            split,
            lineage: String::new(),
            annotation: None,
        });
        self
    }

    /// Keeps the genomes with these names for validation.
    #[must_use]
    pub fn validation<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.validation.extend(names.into_iter().map(Into::into));
        self
    }

    /// Keeps the genomes of these lineages for validation. A lineage covers those below it:
    /// `Archaea` covers `Archaea/Halobacteriota`.
    #[must_use]
    pub fn validation_lineages<S: Into<String>>(
        mut self,
        lineages: impl IntoIterator<Item = S>,
    ) -> Self {
        self.lineages.extend(lineages.into_iter().map(Into::into));
        self
    }

    /// What is done with genomes of which this share of bases or more is equal, by estimate.
    #[must_use]
    pub fn near_duplicates(mut self, what: Duplicates, min_identity: f64) -> Self {
        (self.duplicates, self.min_identity) = (what, min_identity);
        self
    }

    /// Whether the corpus says where codons of annotated genes lie. Annotations come from the
    /// column `gff` of [`CorpusBuilder::table`].
    #[must_use]
    pub fn codons(mut self, codons: bool) -> Self {
        self.codons = codons;
        self
    }

    /// Whether an existing corpus is replaced.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Builds the corpus and opens it. The folder `out` appears when all is written.
    ///
    /// # Errors
    /// When there is no genome, names are unknown or not distinct, a FASTA file is wrong
    /// in some way, or the output exists or cannot be written.
    pub fn build(&self, out: &Path) -> Result<Corpus, CorpusError> {
        Ok(self.build_with(out, |_| ())?.corpus)
    }

    /// [`CorpusBuilder::build`], calling `done` after each genome.
    ///
    /// # Errors
    /// As [`CorpusBuilder::build`].
    pub fn build_with(
        &self,
        out: &Path,
        mut done: impl FnMut(&GenomeEntry),
    ) -> Result<Built, CorpusError> {
        let inputs = self.resolve()?;
        if self.codons && inputs.iter().all(|input| input.annotation.is_none()) {
            return Err(CorpusError::NoAnnotations);
        }
        let folder = OutputFolder::create(out, self.force)?;
        let mut packer = Packer::new(folder.file(BASES_FILE)?, folder.file(RUNS_FILE)?);
        let mut genomes = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let mut genome = packer.pack_genome(&input.name, &input.path, input.split)?;
            genome.lineage.clone_from(&input.lineage);
            done(&genome);
            genomes.push(genome);
        }
        let manifest = Manifest {
            format: FORMAT,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            packed_bytes: packer.packed_bytes(),
            runs: packer.runs(),
            codons: false,
            genomes,
        };
        packer.finish()?;
        write_manifest(&folder, &manifest)?;
        let settled = settle(&folder, self.duplicates, self.min_identity)?;
        if self.codons {
            codons::write(&folder, |name| {
                let input = inputs.iter().find(|input| input.name == name);
                input.and_then(|input| input.annotation.as_deref())
            })?;
        }
        folder.publish()?;
        Ok(Built {
            corpus: Corpus::open(out)?,
            near_duplicates: settled.near_duplicates,
            dropped: settled.dropped,
        })
    }

    /// The genomes with their splits.
    fn resolve(&self) -> Result<Vec<Input>, CorpusError> {
        let mut inputs = self.genomes.clone();
        if inputs.is_empty() {
            return Err(CorpusError::NoGenomes);
        }
        for (i, second) in inputs.iter().enumerate() {
            if let Some(first) = inputs[..i].iter().find(|first| first.name == second.name) {
                return Err(CorpusError::DuplicateGenome {
                    name: second.name.clone(),
                    first: first.path.clone(),
                    second: second.path.clone(),
                });
            }
        }
        for name in &self.validation {
            match inputs.iter_mut().find(|input| input.name == *name) {
                Some(input) => input.split = Split::Val,
                None => {
                    let known = || self.genomes.iter().map(|input| input.name.as_str());
                    return Err(CorpusError::UnknownGenome {
                        place: "--val".to_owned(),
                        name: name.clone(),
                        known: names::list(known()),
                        suggestion: names::suggestion(name, known()),
                    });
                }
            }
        }
        for lineage in &self.lineages {
            let inside = |input: &&mut Input| {
                let rest = input.lineage.strip_prefix(lineage.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ' ']))
            };
            let mut found = false;
            for input in inputs.iter_mut().filter(inside) {
                (input.split, found) = (Split::Val, true);
            }
            if !found {
                let mut known: Vec<&str> = self
                    .genomes
                    .iter()
                    .map(|input| input.lineage.as_str())
                    .filter(|lineage| !lineage.is_empty())
                    .collect();
                known.sort_unstable();
                known.dedup();
                return Err(CorpusError::UnknownLineage {
                    name: lineage.clone(),
                    known: names::list(known.iter().copied()),
                    suggestion: names::suggestion(lineage, known.iter().copied()),
                });
            }
        }
        Ok(inputs)
    }
}

/// The name of a genome: its file's name without `.fna`, `.fa` or `.fasta` (or their less
/// usual forms `.ffn`, `.fas`, `.fsa`) and without `.gz` or `.bgz` after it.
pub fn genome_name(path: &Path) -> String {
    if path == Path::new("-") {
        return "stdin".to_owned();
    }
    let file = path.file_name().unwrap_or(path.as_os_str());
    let name = file.to_string_lossy();
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".bgz"));
    let plain = plain.unwrap_or(&name);
    let mut endings = FASTA_ENDINGS.iter();
    let stem = endings.find_map(|ending| plain.strip_suffix(ending));
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or(plain)
        .to_owned()
}
