//! Tables of measured variants of one gene, and the coding sequences they stand for.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | rows of a CSV or TSV file |
//! | [`mutation`] | what a row changes: `A42G:K50R`, `GCT42GGT`, `p.Ala42Gly`, `c.124G>A` |
//! | [`codons`] | how often a host uses each codon |
//! | [`proteins`] | protein FASTA |
//! | [`target`] | the wild type: a CDS that fits the table, or a protein translated back |
//! | [`edits`] | changes as bases of the CDS, with the codons chosen |

pub mod codons;
pub mod edits;
pub mod mutation;
pub mod proteins;
pub mod table;
pub mod target;
