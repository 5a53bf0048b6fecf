//! What the end-to-end tests of the `cistron` binary share.
//!
//! | module | what |
//! |---|---|
//! | [`binary`] | builds, finds and runs the binary |
//! | [`case`] | case folders: a command with its expected output, messages, files and exit status |
//! | [`engine`] | workflow engines, and the toy data of `workflows/` |
//! | [`filters`] | takes what differs from run to run out of a text |
//! | [`fixture`] | a small real genome, its corpus and a model trained on it, made once |
//! | [`oracle`] | programs of other makes that must read what the binary writes |
//! | [`track`] | bedGraph and BED files as values a base |
//! | [`vcf`] | a VCF with known alleles on a genome, and the scores of one |

pub mod binary;
pub mod case;
pub mod engine;
pub mod filters;
pub mod fixture;
pub mod oracle;
pub mod track;
pub mod vcf;
