//! Sequences, coordinates, FASTA, GFF3, windows and the packed corpus of cistron.
//!
//! Everything else in the workspace reads genomes through this crate. It knows
//! nothing of tensors, so it builds and tests in seconds.
//!
//! | module | holds |
//! |---|---|
//! | [`coord`] | positions, intervals, strands and contig names as types |
//! | [`alphabet`] | bases as model tokens |
//! | [`code`] | genetic codes |
//! | [`compression`] | plain, gzip and BGZF input through one function |
//! | [`fasta`] | the streaming reader and whole genomes in memory |
//! | [`gff`] | GFF3 annotation |
//! | [`corpus`] | many genomes packed two bits a base, memory-mapped |
//! | [`system`] | what the system says about a file, and the remedy |
//! | [`window`] | stretches of a contig, clipped or wrapped at its ends |

pub mod alphabet;
pub mod code;
pub mod compression;
pub mod coord;
pub mod corpus;
pub mod fasta;
pub mod gff;
mod names;
mod revcomp;
pub mod system;
pub mod window;

pub use revcomp::revcomp;
