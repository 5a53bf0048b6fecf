//! What can be wrong with a FASTA file.

use std::io;

use crate::coord::ContigName;

/// Why a FASTA file could not be used. `file` is the path, or `standard input`.
#[derive(Debug, thiserror::Error)]
pub enum FastaError {
    /// The file cannot be opened, read or decompressed; the message names it.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// There is no record.
    #[error("{file}: empty FASTA file; expected at least one record beginning with \">name\"")]
    Empty {
        /// The file.
        file: String,
    },
    /// Text before the first header.
    #[error("{file}, line {line}: expected a FASTA header \">name\", found {found:?}{hint}")]
    NotFasta {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// The beginning of the line.
        found: String,
        /// What the file could be.
        hint: &'static str,
    },
    /// A header without a name.
    #[error("{file}, line {line}: a FASTA header without a name; write \">name\"")]
    MissingName {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
    },
    /// Two records of one name.
    #[error(
        "{file}, line {line}: contig {name:?} appeared before on line {first}; rename one of them"
    )]
    DuplicateContig {
        /// The file.
        file: String,
        /// Line of the second header, from one.
        line: u64,
        /// The name.
        name: ContigName,
        /// Line of the first header.
        first: u64,
    },
    /// A letter that is no nucleotide code.
    #[error(
        "{file}, line {line}: contig {contig:?} holds {letter:?}, which is no nucleotide code \
         (expected ACGTURYSWKMBDHVN, '-' or '.'){hint}"
    )]
    NotNucleotide {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// The contig.
        contig: ContigName,
        /// The first offending letter.
        letter: char,
        /// What the file could be.
        hint: &'static str,
    },
    /// A contig was asked for that the file lacks.
    #[error("{file}: no contig {name:?} (contigs: {known}){suggestion}")]
    UnknownContig {
        /// The file.
        file: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
        /// The nearest name, if there is one.
        suggestion: String,
    },
}
