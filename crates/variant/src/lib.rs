//! Line-preserving VCF reading and writing, and alleles to sequence windows.
//!
//! A scorer reads records, asks for the alleles of each, scores windows and writes the same
//! lines back with more INFO fields:
//!
//! | module | holds |
//! |---|---|
//! | [`vcf`] | header and records as the bytes they came in |
//! | [`aliases`] | other names of contigs |
//! | [`site`] | a record placed on the genome, with its alleles |
//! | [`allele`] | what an ALT is, and whether REF agrees with the genome |
//! | [`windows`] | reference and alternate sequences of equal length |
//! | [`status`] | why an ALT was not scored |
//! | [`mismatch`] | refusal of a wrong reference |
//! | [`annotate`] | our keys in the header and in INFO |
//! | [`writer`] | plain or BGZF output with an index |
//!
//! Coordinates follow VCF: POS is 1-based, and 0 is the telomere before the first base.

pub mod aliases;
pub mod allele;
pub mod annotate;
pub mod mismatch;
pub mod site;
pub mod status;
pub mod vcf;
pub mod windows;
pub mod writer;
