//! The packed corpus: many genomes in one folder, two bits a base, memory-mapped.
//!
//! | file | holds |
//! |---|---|
//! | `manifest.json` | format, tool version, and per genome its name, source file, split, digest, counts and contigs |
//! | `bases.2bit` | all contigs in order, four bases a byte, the first in the lowest bits: A 0, C 1, G 2, T 3. Each contig begins on a whole byte |
//! | `runs.bin` | every stretch of one other code, where `bases.2bit` holds zeros: 16 bytes each, in order: start (u64), length (u32), letter (u8), three zeros; little-endian |
//! | `codons.bits` | where codons end, for the control of learned chunking by codons: one bit a base, the first in the lowest place of a byte; there when they were asked for |
//!
//! A base is counted from the start of `bases.2bit`, four to a byte, so the contigs of a
//! corpus share one line of numbers: a contig's `offset` and a run's start are on it.
//!
//! Reading gives back the upper-case sequence exactly, whatever codes it holds.

mod builder;
mod codons;
mod duplicates;
mod error;
mod export;
mod manifest;
mod output;
mod packer;
mod packing;
mod read;
mod runs;
mod settle;
mod stats;
mod table;
mod verify;

pub use builder::{Built, CorpusBuilder, genome_name};
pub use duplicates::{Duplicates, NearDuplicate};
pub use error::CorpusError;
pub use manifest::{ContigEntry, FORMAT, GenomeEntry, Manifest, Split};
pub use read::{Corpus, CorpusContig};
pub use stats::{CorpusStats, SplitStats};

/// Name of the file of packed bases.
const BASES_FILE: &str = "bases.2bit";
/// Name of the file of runs.
const RUNS_FILE: &str = "runs.bin";
/// Name of the file of codons.
const CODONS_FILE: &str = "codons.bits";
/// Name of the manifest.
const MANIFEST_FILE: &str = "manifest.json";
