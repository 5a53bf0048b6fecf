//! What can be wrong with a corpus.

use std::io;
use std::path::{Path, PathBuf};

use crate::fasta::FastaError;
use crate::gff::GffError;
use crate::system::{cannot_read, cannot_write};

/// Why a corpus could not be built, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A FASTA file could not be used.
    #[error(transparent)]
    Fasta(#[from] FastaError),
    /// An annotation could not be used.
    #[error(transparent)]
    Gff(#[from] GffError),
    /// An input other than a FASTA file cannot be read; the message names it.
    #[error(transparent)]
    Input(#[from] io::Error),
    /// A file of the corpus could not be read.
    #[error(
        "{}: {}; expected a corpus folder made by `cistron corpus build`",
        path.display(), cannot_read(source)
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// An output could not be written.
    #[error("{}: {}", path.display(), cannot_write(source))]
    Write {
        /// The output.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The output folder is there already.
    #[error("{} exists already; choose another --out or pass --force", .0.display())]
    Exists(PathBuf),
    /// The folder to be replaced is not a corpus.
    #[error(
        "{} exists and is not a corpus, so --force does not replace it; choose another --out",
        .0.display()
    )]
    NotReplaceable(PathBuf),
    /// No genome was given.
    #[error("no FASTA file given; a corpus needs at least one")]
    NoGenomes,
    /// Codons are asked for, and no genome has an annotation.
    #[error(
        "--codons: no genome has an annotation; name GFF3 files in a column \"gff\" of --table"
    )]
    NoAnnotations,
    /// A table of genomes is wrong.
    #[error("{}, line {line}: {what}", path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// Line, from one.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// Two genomes of one name.
    #[error(
        "two genomes are named {name:?}: {} and {}; rename one of the files",
        first.display(), second.display()
    )]
    DuplicateGenome {
        /// The name.
        name: String,
        /// The file that has it.
        first: PathBuf,
        /// The other file that has it.
        second: PathBuf,
    },
    /// No genome has this name.
    #[error("{place}: no genome {name:?} (genomes: {known}){suggestion}")]
    UnknownGenome {
        /// The corpus, or the option.
        place: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
        /// The nearest name, if there is one.
        suggestion: String,
    },
    /// No genome is of this lineage.
    #[error(
        "--val-lineage: no genome of lineage {name:?} (lineages: {known}){suggestion}; lineages \
         are in the column \"lineage\" of --table"
    )]
    UnknownLineage {
        /// The lineage asked for.
        name: String,
        /// The lineages there are.
        known: String,
        /// The nearest lineage, if there is one.
        suggestion: String,
    },
    /// The manifest cannot be understood.
    #[error("{}: not a corpus manifest: {source}; build the corpus again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The corpus has another format.
    #[error(
        "{}: corpus format {found}, but this version reads format {expected}; \
         build the corpus again", path.display()
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that can be read.
        expected: u32,
    },
    /// Files and manifest do not belong together.
    #[error("{}: corpus changed since its manifest: {what}; build it again", path.display())]
    Changed {
        /// The file that differs.
        path: PathBuf,
        /// In what it differs.
        what: String,
    },
    /// Bases past the end of a contig were asked for.
    #[error("contig {contig:?} has {length} bases; {start}..{end} (from zero) lies outside")]
    OutOfRange {
        /// The contig.
        contig: String,
        /// First base asked for, from zero.
        start: u64,
        /// End of the bases asked for.
        end: u64,
        /// Length of the contig.
        length: u64,
    },
}

impl CorpusError {
    /// For `map_err`: the output `path` could not be written.
    pub(super) fn write(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: the file `path` could not be read.
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}
