//! FASTA files into a corpus, in one pass. Memory grows with the number of contigs, whose
//! names must be remembered, and not with the number of bases.

use std::path::{Path, PathBuf};

use super::manifest::{ContigEntry, FORMAT, GenomeEntry, Manifest, Split};
use super::output::{OutputFile, OutputFolder};
use super::packing::{count_gc, pack};
use super::runs::RunFinder;
use super::{BASES_FILE, Corpus, CorpusError, MANIFEST_FILE, RUNS_FILE};
use crate::compression::input_name;
use crate::fasta::{Header, Piece, Reader, SequenceDigest};
use crate::names;

/// Endings of FASTA file names, which are no part of a genome's name.
const FASTA_ENDINGS: [&str; 6] = [".fna", ".fa", ".fasta", ".ffn", ".fas", ".fsa"];

/// Gathers genomes and builds a corpus of them.
#[derive(Clone, Debug, Default)]
pub struct CorpusBuilder {
    genomes: Vec<Input>,
    validation: Vec<String>,
    force: bool,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    path: PathBuf,
    split: Split,
}

impl CorpusBuilder {
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
        });
        self
    }

    /// Keeps the genomes with these names for validation.
    #[must_use]
    pub fn validation<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.validation.extend(names.into_iter().map(Into::into));
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
        self.build_with(out, |_| ())
    }

    /// [`CorpusBuilder::build`], calling `done` after each genome.
    ///
    /// # Errors
    /// As [`CorpusBuilder::build`].
    pub fn build_with(
        &self,
        out: &Path,
        mut done: impl FnMut(&GenomeEntry),
    ) -> Result<Corpus, CorpusError> {
        let inputs = self.resolve()?;
        let folder = OutputFolder::create(out, self.force)?;
        let mut packer = Packer {
            bases: folder.file(BASES_FILE)?,
            runs: folder.file(RUNS_FILE)?,
            finder: RunFinder::default(),
            packed_bytes: 0,
            carry: Vec::with_capacity(4),
            packed: Vec::new(),
            run_bytes: Vec::new(),
            gc: 0,
        };
        let mut genomes = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let genome = packer.pack_genome(input)?;
            done(&genome);
            genomes.push(genome);
        }
        let manifest = Manifest {
            format: FORMAT,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            packed_bytes: packer.packed_bytes,
            runs: packer.finder.count,
            genomes,
        };
        packer.bases.finish()?;
        packer.runs.finish()?;
        let mut file = folder.file(MANIFEST_FILE)?;
        let text = serde_json::to_vec_pretty(&manifest)
            .expect("a manifest has string keys and finite numbers");
        file.write(&text)?;
        file.write(b"\n")?;
        file.finish()?;
        folder.publish()?;
        Corpus::open(out)
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
                        name: name.clone(),
                        known: names::list(known()),
                        suggestion: names::suggestion(name, known()),
                    });
                }
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

/// Writes packed bases and runs.
struct Packer {
    bases: OutputFile,
    runs: OutputFile,
    finder: RunFinder,
    packed_bytes: u64,
    /// Up to three bases that do not yet fill a byte.
    carry: Vec<u8>,
    packed: Vec<u8>,
    run_bytes: Vec<u8>,
    /// G and C of the genome so far.
    gc: u64,
}

impl Packer {
    fn pack_genome(&mut self, input: &Input) -> Result<GenomeEntry, CorpusError> {
        let mut reader = Reader::open(&input.path)?;
        let mut contigs: Vec<ContigEntry> = Vec::new();
        let mut digest = SequenceDigest::default();
        let ambiguous_before = self.finder.bases;
        self.gc = 0;
        while let Some(piece) = reader.next_piece()? {
            match piece {
                Piece::Header(header) => {
                    self.end_contig()?;
                    digest.begin(&header.name);
                    contigs.push(self.begin_contig(header));
                }
                Piece::Bases(bases) => {
                    digest.update(bases);
                    if let Some(contig) = contigs.last_mut() {
                        self.add(contig.offset + contig.length, bases)?;
                        contig.length += bases.len() as u64;
                    }
                    let line_width = reader.line_width();
                    if let Some(contig) = contigs.last_mut() {
                        contig.line_width = line_width;
                    }
                }
            }
        }
        self.end_contig()?;
        for contig in contigs.iter().filter(|contig| contig.length == 0) {
            let file = input_name(&input.path);
            tracing::warn!("{file}: contig {:?} has no bases", contig.name);
        }
        let bases = contigs.iter().map(|contig| contig.length).sum();
        let ambiguous = self.finder.bases - ambiguous_before;
        let file = input.path.file_name().unwrap_or(input.path.as_os_str());
        Ok(GenomeEntry {
            name: input.name.clone(),
            source: file.to_string_lossy().into_owned(),
            split: input.split,
            sha256: digest.finish(),
            bases,
            gc: self.gc as f64 / (bases - ambiguous).max(1) as f64,
            ambiguous,
            contigs,
        })
    }

    fn begin_contig(&self, header: Header) -> ContigEntry {
        ContigEntry {
            name: header.name,
            description: header.description,
            length: 0,
            offset: self.packed_bytes * 4,
            line_width: 0,
        }
    }

    /// Adds bases, the first of which has the index `start` in the corpus.
    fn add(&mut self, start: u64, bases: &[u8]) -> Result<(), CorpusError> {
        let fill = bases.len().min((4 - self.carry.len()) % 4);
        let (head, body) = bases.split_at(fill);
        self.carry.extend_from_slice(head);
        let (whole, rest) = body.split_at(body.len() / 4 * 4);
        let mut other = false;
        if self.carry.len() == 4 {
            other |= pack(&self.carry, &mut self.packed);
            self.carry.clear();
        }
        other |= pack(whole, &mut self.packed);
        self.carry.extend_from_slice(rest);
        // A letter carried over is looked at again when its byte is full, at no harm.
        other |= pack(&self.carry, &mut Vec::new());
        if other {
            self.finder.scan(start, bases, &mut self.run_bytes);
        }
        self.write()
    }

    fn end_contig(&mut self) -> Result<(), CorpusError> {
        pack(&self.carry, &mut self.packed);
        self.carry.clear();
        self.finder.close(&mut self.run_bytes);
        self.write()
    }

    fn write(&mut self) -> Result<(), CorpusError> {
        self.gc += count_gc(&self.packed);
        self.packed_bytes += self.packed.len() as u64;
        self.bases.write(&self.packed)?;
        self.runs.write(&self.run_bytes)?;
        self.packed.clear();
        self.run_bytes.clear();
        Ok(())
    }
}
