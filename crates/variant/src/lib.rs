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
//! | [`consequence`] | what an ALT does to the gene it lies in |
//! | [`mismatch`] | refusal of a wrong reference |
//! | [`annotate`] | our keys in the header and in INFO |
//! | [`writer`] | plain or BGZF output with an index |
//! | [`shard`], [`gather`] | parts of a file for many machines, and one file of the parts |
//! | [`dms`] | tables of measured variants of one gene, as coding sequences |
//!
//! ```
//! use cistron_variant::annotate::{Declaration, splice_header, splice_record, strip};
//! use cistron_variant::{status::Status, vcf::Reader};
//!
//! let text = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\
//!             chr\t7\t.\tA\tC,*\t50.00\t.\tDP=3\n";
//! let mut reader = Reader::new(Box::new(text.as_bytes()), "in.vcf")?;
//! let declaration =
//!     Declaration { llr: "a score".into(), consequence: None, provenance: None, shard: None };
//! let mut out = splice_header(reader.header(), &declaration);
//! while let Some(record) = reader.next_record()? {
//!     out.extend(splice_record(&record, &[Ok(-1.5), Err(Status::Star)], None)?);
//! }
//! assert!(out.ends_with(b"\t50.00\t.\tDP=3;CIS_LLR=-1.5,.;CIS_STATUS=OK,STAR\n"));
//! assert_eq!(strip(&out), text.as_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Coordinates follow VCF: POS is 1-based, and 0 is the telomere before the first base.

pub mod aliases;
pub mod allele;
pub mod annotate;
pub mod consequence;
pub mod dms;
pub mod gather;
pub mod mismatch;
pub mod shard;
pub mod site;
pub mod status;
pub mod vcf;
pub mod windows;
pub mod writer;
