//! FASTA: a streaming reader, and genomes held in memory.
//!
//! Bases are letters of the IUPAC nucleotide alphabet in either case
//! (`ACGTURYSWKMBDHVN`, `-` and `.` for gaps). They come out in upper case, with U as T.

mod error;
mod genome;
mod letters;
mod reader;

pub use error::FastaError;
pub use genome::{CircularSpec, Contig, Genome, SequenceDigest};
pub use reader::{Header, Piece, Reader};
