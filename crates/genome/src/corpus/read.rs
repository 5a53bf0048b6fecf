//! Opening and reading a corpus.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::manifest::{ContigEntry, GenomeEntry, Manifest};
use super::packing::unpack;
use super::runs::{RUN_BYTES, Runs};
use super::{BASES_FILE, CODONS_FILE, CorpusError, MANIFEST_FILE, RUNS_FILE};
use crate::names;

/// An open corpus. It can be read from many threads at once; a clone is another handle on it.
#[derive(Clone, Debug)]
pub struct Corpus {
    folder: PathBuf,
    manifest: Arc<Manifest>,
    packed: Arc<Mmap>,
    runs: Arc<Mmap>,
    pub(super) codons: Option<Arc<Mmap>>,
}

impl Corpus {
    /// Opens the corpus in `folder`. The sizes of its files are checked against the
    /// manifest; [`Corpus::verify`] checks their content.
    ///
    /// # Errors
    /// When a file is missing, the manifest cannot be read, or the files have changed.
    pub fn open(folder: &Path) -> Result<Self, CorpusError> {
        let manifest = Manifest::read(&folder.join(MANIFEST_FILE))?;
        let run_bytes = manifest.runs.saturating_mul(RUN_BYTES as u64);
        let codon_bytes = manifest.packed_bytes.div_ceil(2);
        let codons = manifest
            .codons
            .then(|| open_map(&folder.join(CODONS_FILE), codon_bytes).map(Arc::new))
            .transpose()?;
        Ok(Self {
            packed: Arc::new(open_map(&folder.join(BASES_FILE), manifest.packed_bytes)?),
            runs: Arc::new(open_map(&folder.join(RUNS_FILE), run_bytes)?),
            codons,
            folder: folder.to_owned(),
            manifest: Arc::new(manifest),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The genomes, in corpus order.
    pub fn genomes(&self) -> &[GenomeEntry] {
        &self.manifest.genomes
    }

    /// Index of the genome with this name.
    ///
    /// # Errors
    /// When there is none; the error lists the names there are.
    pub fn genome_index(&self, name: &str) -> Result<usize, CorpusError> {
        let mut genomes = self.genomes().iter();
        genomes
            .position(|genome| genome.name == name)
            .ok_or_else(|| {
                let known = || self.genomes().iter().map(|genome| genome.name.as_str());
                CorpusError::UnknownGenome {
                    place: self.folder.display().to_string(),
                    name: name.to_owned(),
                    known: names::list(known()),
                    suggestion: names::suggestion(name, known()),
                }
            })
    }

    /// A contig by the indices of its genome and of itself therein.
    ///
    /// # Panics
    /// When an index is out of bounds, as slices do.
    pub fn contig(&self, genome: usize, contig: usize) -> CorpusContig<'_> {
        CorpusContig {
            corpus: self,
            entry: &self.manifest.genomes[genome].contigs[contig],
        }
    }
}

/// A contig of an open corpus.
#[derive(Clone, Copy, Debug)]
pub struct CorpusContig<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) entry: &'a ContigEntry,
}

impl<'a> CorpusContig<'a> {
    /// Its line in the manifest.
    pub fn entry(self) -> &'a ContigEntry {
        self.entry
    }

    /// Number of bases.
    pub fn len(self) -> u64 {
        self.entry.length
    }

    /// Whether it has no bases.
    pub fn is_empty(self) -> bool {
        self.entry.length == 0
    }

    /// Puts the upper-case ASCII bases `range`, counted from zero, in place of what
    /// `bases` holds.
    ///
    /// # Errors
    /// When the range does not lie within the contig.
    pub fn read(self, range: Range<u64>, bases: &mut Vec<u8>) -> Result<(), CorpusError> {
        bases.clear();
        if range.start > range.end || range.end > self.len() {
            return Err(self.out_of_range(&range));
        }
        let start = self.entry.offset + range.start;
        let end = self.entry.offset + range.end;
        unpack(&self.corpus.packed, start as usize, end as usize, bases);
        for run in Runs::new(&self.corpus.runs).touching(start, end) {
            let from = run.start.max(start) - start;
            let to = run.end().min(end).saturating_sub(start);
            if let Some(stretch) = bases.get_mut(from as usize..to as usize) {
                stretch.fill(run.letter);
            }
        }
        Ok(())
    }
}

impl CorpusContig<'_> {
    pub(super) fn out_of_range(self, range: &Range<u64>) -> CorpusError {
        CorpusError::OutOfRange {
            contig: self.entry.name.to_string(),
            start: range.start,
            end: range.end,
            length: self.len(),
        }
    }
}

/// Maps a file of a known size.
fn open_map(path: &Path, expected: u64) -> Result<Mmap, CorpusError> {
    let failed = CorpusError::read(path);
    let file = File::open(path).map_err(&failed)?;
    let found = file.metadata().map_err(&failed)?.len();
    if found != expected {
        return Err(CorpusError::Changed {
            path: path.to_owned(),
            what: format!("{found} bytes instead of {expected}"),
        });
    }
    map(&file).map_err(failed)
}

/// Maps a file for reading.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: a corpus is never written in place: the builder writes a folder under another
    // name and renames it, so the mapped files keep their content. Somebody else cutting a
    // file short while it is mapped would end the process with a signal, as with any mapping.
    unsafe { Mmap::map(file) }
}
