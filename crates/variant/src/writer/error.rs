//! What can go wrong with an output.

use std::io;

use cistron_genome::system::cannot_write;

/// Failure to write a VCF.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing failed.
    #[error("{file}: {}", cannot_write(source))]
    Io {
        /// The output.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The output or its index is there already.
    #[error("{file} exists; choose another -o or replace it with --force")]
    Exists {
        /// The output.
        file: String,
    },
    /// Only a BGZF file can be indexed.
    #[error("{file}: --write-index needs an output file in BGZF, such as -o OUT.vcf.gz")]
    NotIndexable {
        /// The output.
        file: String,
    },
    /// The records are not sorted.
    #[error(
        "{file}: cannot index: {place} (line {line}) comes after {previous}; sort the input \
         with `bcftools sort`, or leave out --write-index"
    )]
    Unsorted {
        /// The output.
        file: String,
        /// Place of the record.
        place: String,
        /// Number of its line in the input, from 1.
        line: u64,
        /// Place of the record before it.
        previous: String,
    },
    /// A record lies where a tabix index cannot reach.
    #[error(
        "{file}: cannot index: {place} (line {line}) ends at {end}, and a tabix index reaches \
         to 536870912; leave out --write-index"
    )]
    OutOfIndex {
        /// The output.
        file: String,
        /// Place of the record.
        place: String,
        /// Number of its line in the input, from 1.
        line: u64,
        /// Last base of the record, 1-based.
        end: u64,
    },
}
