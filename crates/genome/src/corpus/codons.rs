//! Where codons of annotated genes end, one bit a base.
//!
//! The bit of a base, counted as in `bases.2bit`, the first in the lowest place of a byte, says
//! that a codon, of either strand, ends before it. Between genes the cut goes on every third base.

use std::ops::Range;
use std::path::Path;

use super::manifest::{ContigEntry, Manifest};
use super::output::OutputFolder;
use super::settle::write_manifest;
use super::{CODONS_FILE, Corpus, CorpusContig, CorpusError, MANIFEST_FILE};
use crate::coord::Strand;
use crate::gff::{Annotation, Feature};

/// Bases of a codon.
const CODON: u64 = 3;

/// Adds the file of codons to a corpus whose other files are written. `annotation` names the
/// GFF3 file of a genome; genomes without one are cut every third base.
pub(super) fn write<'a>(
    folder: &OutputFolder,
    annotation: impl Fn(&str) -> Option<&'a Path>,
) -> Result<(), CorpusError> {
    let mut manifest = Manifest::read(&folder.path().join(MANIFEST_FILE))?;
    let mut bits = vec![0_u8; manifest.packed_bytes.div_ceil(2) as usize];
    for genome in &manifest.genomes {
        let annotation = annotation(&genome.name)
            .map(|path| Annotation::read(path, None))
            .transpose()?;
        for contig in &genome.contigs {
            let genes = annotation.as_ref().map_or(&[][..], |all| &all.features);
            for border in borders(genes, contig) {
                let at = contig.offset + border;
                bits[(at / 8) as usize] |= 1 << (at % 8);
            }
        }
    }
    let mut file = folder.file(CODONS_FILE)?;
    file.write(&bits)?;
    file.finish()?;
    manifest.codons = true;
    write_manifest(folder, &manifest)
}

/// Bases of a contig before which a codon ends, in ascending order. Where genes overlap, the
/// first keeps its own to its end.
fn borders(features: &[Feature], contig: &ContigEntry) -> Vec<u64> {
    let coding = |feature: &&Feature| {
        feature.kind == "CDS" && feature.contig == contig.name && !feature.is_pseudo()
    };
    let mut genes: Vec<(u64, u64, u64)> = features.iter().filter(coding).map(frame).collect();
    genes.sort_unstable();
    let mut borders: Vec<u64> = Vec::new();
    let after = |borders: &[u64]| borders.last().map_or(0, |last| last + CODON);
    for (start, end, first) in genes {
        borders.extend((after(&borders)..start.min(contig.length)).step_by(CODON as usize));
        // The first of this gene's borders that is not cut already.
        let begin = borders.last().map_or(first, |last| first.max(last + 1));
        let from = begin + (first + CODON - begin % CODON) % CODON;
        let stop = (end + 1).min(contig.length);
        borders.extend((from..stop).step_by(CODON as usize));
    }
    borders.extend((after(&borders)..contig.length).step_by(CODON as usize));
    borders
}

/// Start, end and first codon border of a gene, the last as small as the phase allows.
fn frame(gene: &Feature) -> (u64, u64, u64) {
    let (start, end) = (gene.interval.start(), gene.interval.end());
    let phase = u64::from(gene.phase.unwrap_or(0));
    let first = match gene.strand {
        Some(Strand::Reverse) => start + (end - start).saturating_sub(phase) % CODON,
        _ => start + phase,
    };
    (start, end, first)
}

impl Corpus {
    /// Whether it was built to say where codons lie.
    pub fn has_codons(&self) -> bool {
        self.codons.is_some()
    }
}

impl CorpusContig<'_> {
    /// Whether a codon ends before each base of `range`, which may go up to one past the last
    /// base; there one does. `None` when the corpus was not built to say so.
    ///
    /// # Errors
    /// When the range does not lie within the contig.
    pub fn codon_borders(self, range: Range<u64>) -> Result<Option<Vec<bool>>, CorpusError> {
        if range.start > range.end || range.end > self.len() + 1 {
            return Err(self.out_of_range(&range));
        }
        let Some(bits) = &self.corpus.codons else {
            return Ok(None);
        };
        let border = |base: u64| {
            let at = self.entry.offset + base;
            base == self.len() || bits[(at / 8) as usize] >> (at % 8) & 1 == 1
        };
        Ok(Some(range.map(border).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::CorpusBuilder;
    use std::fs;

    /// A corpus of one contig of `length` bases with the given GFF3 lines.
    fn corpus(length: usize, lines: &[&str]) -> (Corpus, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.fna"), format!(">c\n{}\n", "A".repeat(length))).unwrap();
        fs::write(path("b.fna"), ">d\nACGTACG\n").unwrap();
        let text = lines.join("\n");
        fs::write(path("a.gff3"), format!("##gff-version 3\n{text}\n")).unwrap();
        fs::write(path("t.tsv"), "fasta\tgff\nb.fna\t\na.fna\ta.gff3\n").unwrap();
        let builder = CorpusBuilder::new()
            .table(&path("t.tsv"))
            .unwrap()
            .codons(true);
        (builder.build(&path("corpus")).unwrap(), folder)
    }

    fn found(corpus: &Corpus, genome: usize) -> Vec<u64> {
        let contig = corpus.contig(genome, 0);
        let all = contig.codon_borders(0..contig.len() + 1).unwrap().unwrap();
        (0..)
            .zip(all)
            .filter(|(_, is)| *is)
            .map(|(i, _)| i)
            .collect()
    }

    #[test]
    fn genes_are_cut_in_frame_and_the_rest_every_third_base() {
        let gene = "c\tx\tCDS\t5\t13\t.\t+\t0\tID=a";
        let (corpus, _folder) = corpus(20, &[gene]);
        assert!(corpus.has_codons());
        assert_eq!(found(&corpus, 1), [0, 3, 4, 7, 10, 13, 16, 19, 20]);
        assert_eq!(found(&corpus, 0), [0, 3, 6, 7]);
    }

    #[test]
    fn phases_and_strands_are_kept() {
        // One base before the first whole codon; read backwards, two after the last.
        let (one, _a) = corpus(11, &["c\tx\tCDS\t1\t7\t.\t+\t1\tID=a"]);
        assert_eq!(found(&one, 1), [1, 4, 7, 10, 11]);
        let (other, _b) = corpus(11, &["c\tx\tCDS\t1\t8\t.\t-\t0\tID=a"]);
        assert_eq!(found(&other, 1), [2, 5, 8, 11]);
    }

    #[test]
    fn of_two_overlapping_genes_the_first_keeps_its_frame() {
        let genes = [
            "c\tx\tCDS\t1\t9\t.\t+\t0\tID=a",
            "c\tx\tCDS\t6\t14\t.\t-\t0\tID=b",
            "c\tx\tCDS\t1\t15\t.\t+\t0\tID=p;pseudo=true",
        ];
        let (corpus, _folder) = corpus(15, &genes);
        assert_eq!(found(&corpus, 1), [0, 3, 6, 9, 11, 14, 15]);
    }

    #[test]
    fn a_corpus_that_was_not_asked_for_codons_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fna");
        fs::write(&path, ">c\nACGT\n").unwrap();
        let builder = CorpusBuilder::new().fasta(path);
        let corpus = builder.build(&folder.path().join("corpus")).unwrap();
        let asked = builder.codons(true).build(&folder.path().join("other"));
        assert!(asked.unwrap_err().to_string().contains("\"gff\""));
        assert!(!corpus.has_codons());
        assert_eq!(corpus.contig(0, 0).codon_borders(0..4).unwrap(), None);
        assert!(corpus.contig(0, 0).codon_borders(0..6).is_err());
    }
}
