//! What can go wrong while a track is written.

use std::io;
use std::path::{Path, PathBuf};

use cistron_genome::system::cannot_write;

/// An error of a track writer. Positions in messages count from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The file system refused.
    #[error("{}: {}", path.display(), cannot_write(source))]
    Io {
        /// The output file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The encoder refused its input.
    #[error("{}: cannot be encoded: {reason}", path.display())]
    Encode {
        /// The output file.
        path: PathBuf,
        /// The encoder's reason.
        reason: String,
    },

    /// Two contigs share a name.
    #[error("{}: contig `{contig}` is listed twice; names must differ within a track", path.display())]
    DuplicateContig {
        /// The output file.
        path: PathBuf,
        /// The repeated name.
        contig: String,
    },

    /// A name that a tab-separated line cannot hold.
    #[error(
        "{}: contig name {contig:?} is empty or holds white space or a control character; \
         rename it in the FASTA", path.display()
    )]
    ContigName {
        /// The output file.
        path: PathBuf,
        /// The name.
        contig: String,
    },

    /// A contig longer than the format can address.
    #[error(
        "{}: contig `{contig}` has {length} bases, more than the {limit} that {format} can \
         address", path.display()
    )]
    ContigLength {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// Its length in bases.
        length: u64,
        /// The format's limit in bases.
        limit: u64,
        /// The format.
        format: &'static str,
    },

    /// More contigs than the format can list.
    #[error("{}: {count} contigs, more than the {limit} that {format} can list; write bedGraph or BED instead", path.display())]
    ContigCount {
        /// The output file.
        path: PathBuf,
        /// Number of contigs given.
        count: usize,
        /// The format's limit.
        limit: usize,
        /// The format.
        format: &'static str,
    },

    /// Data for a contig that was not listed, or whose turn has passed.
    #[error("{}: data for contig `{contig}`, expected {expected}", path.display())]
    UnexpectedContig {
        /// The output file.
        path: PathBuf,
        /// The contig of the data.
        contig: String,
        /// What could have come.
        expected: String,
    },

    /// Data past the end of a contig.
    #[error("{}: {contig}:{position}: data past the contig's end, it has {length} bases", path.display())]
    PastEnd {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// First base without a place, counted from one.
        position: u64,
        /// Length of the contig in bases.
        length: u64,
    },

    /// A contig that did not get all its data.
    #[error("{}: contig `{contig}` got data for {got} of {length} bases", path.display())]
    Unfinished {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// Bases covered so far.
        got: u64,
        /// Length of the contig in bases.
        length: u64,
    },

    /// A value that is infinite or not a number.
    #[error("{}: {contig}:{position}: the value is {value}, expected a finite number", path.display())]
    NotFinite {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// The base, counted from one.
        position: u64,
        /// The value.
        value: f32,
    },

    /// No contig has a value; the format cannot say so.
    #[error("{}: no contig has a value, and this format cannot be empty", path.display())]
    NoValues {
        /// The output file.
        path: PathBuf,
    },

    /// A line of the annotation cannot be used.
    #[error("{file}, line {line}: {reason}")]
    Annotation {
        /// The annotation.
        file: String,
        /// The line, from one.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// An item that begins before the one before it.
    #[error("{}: {contig}:{position}: begins before {before}, where the one before it began", path.display())]
    NotSorted {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// First base of the item, counted from one.
        position: u64,
        /// First base of the item before it, counted from one.
        before: u64,
    },

    /// A chunk that does not begin where the one before it ended, or is empty.
    #[error(
        "{}: {contig}:{position}: this chunk of {length} bases should begin at base {expected}; \
         chunks tile their contig", path.display()
    )]
    NotTiled {
        /// The output file.
        path: PathBuf,
        /// The contig.
        contig: String,
        /// First base of the chunk, counted from one.
        position: u64,
        /// Length of the chunk in bases.
        length: u64,
        /// The base it should begin at, counted from one.
        expected: u64,
    },
}

impl TrackError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}
