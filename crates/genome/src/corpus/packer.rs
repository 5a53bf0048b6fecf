//! The streaming writer of packed bases and runs.

use std::path::Path;

use super::manifest::{ContigEntry, GenomeEntry, Split};
use super::output::OutputFile;
use super::packing::{count_gc, pack};
use super::runs::RunFinder;
use super::{Corpus, CorpusError};
use crate::compression::input_name;
use crate::fasta::{Header, Piece, Reader, SequenceDigest};

/// Bases copied at a time.
const PIECE: u64 = 1 << 20;

/// Writes packed bases and runs.
pub(super) struct Packer {
    bases: OutputFile,
    runs: OutputFile,
    finder: RunFinder,
    packed_bytes: u64,
    /// Up to three bases that do not yet fill a byte.
    carry: Vec<u8>,
    packed: Vec<u8>,
    run_bytes: Vec<u8>,
    /// G and C of the genome so far.
    gc: u64,
}

impl Packer {
    /// Writes to these files.
    pub fn new(bases: OutputFile, runs: OutputFile) -> Self {
        Self {
            bases,
            runs,
            finder: RunFinder::default(),
            packed_bytes: 0,
            carry: Vec::with_capacity(4),
            packed: Vec::new(),
            run_bytes: Vec::new(),
            gc: 0,
        }
    }

    /// Bytes of packed bases so far.
    pub fn packed_bytes(&self) -> u64 {
        self.packed_bytes
    }

    /// Number of runs so far.
    pub fn runs(&self) -> u64 {
        self.finder.count
    }

    /// Brings both files to the disk.
    pub fn finish(self) -> Result<(), CorpusError> {
        self.bases.finish()?;
        self.runs.finish()
    }

    /// Packs all of a FASTA file.
    pub fn pack_genome(
        &mut self,
        name: &str,
        path: &Path,
        split: Split,
    ) -> Result<GenomeEntry, CorpusError> {
        let mut reader = Reader::open(path)?;
        let mut contigs: Vec<ContigEntry> = Vec::new();
        let mut digest = SequenceDigest::default();
        let ambiguous_before = self.finder.bases;
        self.gc = 0;
        while let Some(piece) = reader.next_piece()? {
            match piece {
                Piece::Header(header) => {
                    self.end_contig()?;
                    digest.begin(&header.name);
                    contigs.push(self.begin_contig(header));
                }
                Piece::Bases(bases) => {
                    digest.update(bases);
                    if let Some(contig) = contigs.last_mut() {
                        self.add(contig.offset + contig.length, bases)?;
                        contig.length += bases.len() as u64;
                    }
                    let line_width = reader.line_width();
                    if let Some(contig) = contigs.last_mut() {
                        contig.line_width = line_width;
                    }
                }
            }
        }
        self.end_contig()?;
        for contig in contigs.iter().filter(|contig| contig.length == 0) {
            let file = input_name(path);
            tracing::warn!("{file}: contig {:?} has no bases", contig.name);
        }
        let bases = contigs.iter().map(|contig| contig.length).sum();
        let ambiguous = self.finder.bases - ambiguous_before;
        let file = path.file_name().unwrap_or(path.as_os_str());
        Ok(GenomeEntry {
            name: name.to_owned(),
            source: file.to_string_lossy().into_owned(),
            split,
            lineage: String::new(),
            cluster: None,
            weight: 1.0,
            sha256: digest.finish(),
            bases,
            gc: self.gc as f64 / (bases - ambiguous).max(1) as f64,
            ambiguous,
            contigs,
        })
    }

    /// Packs a genome of a corpus again, as its manifest describes it but for its place.
    pub fn copy_genome(
        &mut self,
        corpus: &Corpus,
        genome: usize,
    ) -> Result<GenomeEntry, CorpusError> {
        let mut entry = corpus.genomes()[genome].clone();
        let mut bases = Vec::new();
        for (i, copied) in entry.contigs.iter_mut().enumerate() {
            let contig = corpus.contig(genome, i);
            copied.offset = self.packed_bytes * 4;
            for start in (0..contig.len()).step_by(PIECE as usize) {
                contig.read(start..contig.len().min(start + PIECE), &mut bases)?;
                self.add(copied.offset + start, &bases)?;
            }
            self.end_contig()?;
        }
        Ok(entry)
    }

    fn begin_contig(&self, header: Header) -> ContigEntry {
        ContigEntry {
            name: header.name,
            description: header.description,
            length: 0,
            offset: self.packed_bytes * 4,
            line_width: 0,
        }
    }

    /// Adds bases, the first of which has the index `start` in the corpus.
    fn add(&mut self, start: u64, bases: &[u8]) -> Result<(), CorpusError> {
        let fill = bases.len().min((4 - self.carry.len()) % 4);
        let (head, body) = bases.split_at(fill);
        self.carry.extend_from_slice(head);
        let (whole, rest) = body.split_at(body.len() / 4 * 4);
        let mut other = false;
        if self.carry.len() == 4 {
            other |= pack(&self.carry, &mut self.packed);
            self.carry.clear();
        }
        other |= pack(whole, &mut self.packed);
        self.carry.extend_from_slice(rest);
        // A letter carried over is looked at again when its byte is full, at no harm.
        other |= pack(&self.carry, &mut Vec::new());
        if other {
            self.finder.scan(start, bases, &mut self.run_bytes);
        }
        self.write()
    }

    fn end_contig(&mut self) -> Result<(), CorpusError> {
        pack(&self.carry, &mut self.packed);
        self.carry.clear();
        self.finder.close(&mut self.run_bytes);
        self.write()
    }

    fn write(&mut self) -> Result<(), CorpusError> {
        self.gc += count_gc(&self.packed);
        self.packed_bytes += self.packed.len() as u64;
        self.bases.write(&self.packed)?;
        self.runs.write(&self.run_bytes)?;
        self.packed.clear();
        self.run_bytes.clear();
        Ok(())
    }
}
