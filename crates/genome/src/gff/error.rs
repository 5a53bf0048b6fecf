//! What can be wrong with a GFF3 file.

use std::io;

use crate::coord::{ContigName, Interval};

/// Why a GFF3 file could not be used. `file` is the path, or `standard input`.
#[derive(Debug, thiserror::Error)]
pub enum GffError {
    /// The file cannot be opened, read or decompressed; the message names it.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A line is not GFF3.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A feature on a contig that the genome lacks.
    #[error(
        "{file}, line {line}: no contig {contig:?} in {fasta} (contigs: {known}); give \
         the annotation of this genome{suggestion}"
    )]
    UnknownContig {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// The contig.
        contig: ContigName,
        /// The genome's file.
        fasta: String,
        /// The names there are.
        known: String,
        /// The nearest name, if there is one.
        suggestion: String,
    },
    /// A feature that begins past the end of its contig.
    #[error(
        "{file}, line {line}: {contig}:{interval} begins past the end of the contig, which has \
         {length} bases in {fasta}; give the annotation of this genome"
    )]
    OutOfRange {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// The contig.
        contig: ContigName,
        /// Where the feature lies.
        interval: Interval,
        /// Length of the contig.
        length: u64,
        /// The genome's file.
        fasta: String,
    },
}
