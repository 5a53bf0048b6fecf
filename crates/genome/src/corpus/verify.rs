//! The full check of a corpus.

use super::{BASES_FILE, Corpus, CorpusError};
use crate::fasta::SequenceDigest;

/// Bases digested at a time.
const PIECE: u64 = 1 << 16;

impl Corpus {
    /// Reads everything and compares each genome's digest with the manifest.
    ///
    /// # Errors
    /// When a genome differs.
    pub fn verify(&self) -> Result<(), CorpusError> {
        (0..self.genomes().len()).try_for_each(|genome| self.verify_genome(genome))
    }

    fn verify_genome(&self, genome: usize) -> Result<(), CorpusError> {
        let entry = &self.genomes()[genome];
        let mut digest = SequenceDigest::default();
        let mut bases = Vec::new();
        for i in 0..entry.contigs.len() {
            let contig = self.contig(genome, i);
            digest.begin(&contig.entry().name);
            for start in (0..contig.len()).step_by(PIECE as usize) {
                contig.read(start..contig.len().min(start + PIECE), &mut bases)?;
                digest.update(&bases);
            }
        }
        let found = digest.finish();
        if found != entry.sha256 {
            let (name, expected) = (&entry.name, &entry.sha256);
            return Err(CorpusError::Changed {
                path: self.folder().join(BASES_FILE),
                what: format!("genome {name:?} has SHA-256 {found} instead of {expected}"),
            });
        }
        Ok(())
    }
}
