//! Line-preserving VCF reading and writing, and alleles to sequence windows.
