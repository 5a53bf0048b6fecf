//! Genome-browser tracks: their writers, the files that open them in browsers, and a server.
//!
//! | module | writes | independent reader that must agree |
//! |---|---|---|
//! | [`bigwig`] | one `f32` a base, zoom levels | `pyBigWig` (libBigWig) |
//! | [`bedgraph`] | the same values as text, BGZF and tabix index | `tabix` |
//! | [`bed`] | chunks, one line each, plain or BGZF with tabix index | `tabix` |
//! | [`bigbed`] | chunks and genes with an autoSql declaration | `pyBigWig` |
//! | [`genes`] | the annotation as sorted GFF3, BGZF with tabix index | `tabix` |
//! | [`mod@reference`] | the genome as indexed FASTA and as 2bit | noodles, UCSC's specification |
//! | [`session`] | JBrowse 2, IGV, igv.js and UCSC sessions | JBrowse 2 and igv.js |
//!
//! The two signal writers take the same calls: `create` with the contigs' names and
//! lengths, `push` for the next values of a contig in pieces of any size, `finish`. They
//! hold no more than a piece in memory, whatever the length of a contig. A value past the
//! end of a contig, a contig out of turn and a contig left unfinished are errors: a file
//! that was written covers exactly the bases it was given.
//!
//! Every file is written under a temporary name beside its target and renamed by `finish`;
//! a writer that is dropped leaves nothing behind. A target that exists is replaced: the
//! caller asks its user first.
//!
//! All coordinates are zero-based and half-open, as these formats have them; error
//! messages count from one, as browsers do.

pub mod atomic;
pub mod bed;
pub mod bedgraph;
mod bgzip;
pub mod bigbed;
pub mod bigwig;
pub mod chunk;
mod contig;
mod error;
pub mod genes;
pub mod reference;
mod runs;
pub mod serve;
pub mod session;
mod sink;

pub use chunk::{Boundary, Chunk};
pub use contig::ContigSize;
pub use error::TrackError;
