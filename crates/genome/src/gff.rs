//! GFF3 annotation.
//!
//! Lines are parsed by noodles; here they get line numbers, checked coordinates and
//! contigs. The `##FASTA` part, if there is one, is not read.

mod error;
mod feature;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use noodles::gff;

pub use error::GffError;
pub use feature::{Attributes, Feature};

use crate::compression::{input_name, open_input};
use crate::coord::{ContigName, Topology};
use crate::fasta::Genome;
use crate::names;

/// All features of one GFF3 file, in file order.
#[derive(Clone, Debug)]
pub struct Annotation {
    /// The file.
    pub path: PathBuf,
    /// The features. Those of several lines (a CDS in parts) are several features of one ID.
    pub features: Vec<Feature>,
    circular: Vec<ContigName>,
}

impl Annotation {
    /// Reads a plain, gzip or BGZF GFF3 file; `-` is standard input. With a genome every
    /// feature must lie on one of its contigs, and begin within it. A feature may end past
    /// the end of a circular contig, which it then crosses; on a linear one this is logged
    /// as a warning.
    ///
    /// # Errors
    /// When the file cannot be read, a line is not GFF3, or a feature does not fit the
    /// genome.
    pub fn read(path: &Path, genome: Option<&Genome>) -> Result<Self, GffError> {
        Self::parse(open_input(path)?, path, genome)
    }

    /// As [`Annotation::read`], from anywhere; `path` names it in messages.
    ///
    /// # Errors
    /// As [`Annotation::read`].
    pub fn parse(
        mut input: impl BufRead,
        path: &Path,
        genome: Option<&Genome>,
    ) -> Result<Self, GffError> {
        let mut annotation = Self {
            path: path.to_owned(),
            features: Vec::new(),
            circular: Vec::new(),
        };
        let file = input_name(path);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            if input.read_until(b'\n', &mut text)? == 0 || begins_fasta(&text) {
                break;
            }
            let wrong = |what| GffError::Line {
                file: file.clone(),
                line,
                what,
            };
            if let Some(feature) = parse_line(&text, line).map_err(wrong)? {
                if let Some(genome) = genome {
                    check(&feature, genome, &file)?;
                }
                annotation.features.push(feature);
            }
        }
        annotation.find_circular(genome);
        if let Some(genome) = genome {
            annotation.warn_of_overhangs(genome, &file);
        }
        Ok(annotation)
    }

    /// Contigs that a `region` feature calls circular (`Is_circular=true`), each once. With
    /// a genome only those whose region is as long as the contig: a part of a circular
    /// replicon is not circular.
    pub fn circular_contigs(&self) -> &[ContigName] {
        &self.circular
    }

    /// The features of one kind, such as `gene` or `CDS`.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Feature> {
        let features = self.features.iter();
        features.filter(move |feature| feature.kind == kind)
    }

    fn find_circular(&mut self, genome: Option<&Genome>) {
        for feature in &self.features {
            let circular = feature.attributes.get("Is_circular") == Some("true");
            if !circular || self.circular.contains(&feature.contig) {
                continue;
            }
            if let Some(contig) = genome.and_then(|genome| genome.get(&feature.contig))
                && feature.interval.range() != (0..contig.bases.len() as u64)
            {
                tracing::warn!(
                    "{}, line {}: {} is called circular with another length than its {} bases; \
                     it is taken as linear",
                    input_name(&self.path),
                    feature.line,
                    contig.name,
                    contig.bases.len()
                );
                continue;
            }
            self.circular.push(feature.contig.clone());
        }
    }

    fn warn_of_overhangs(&self, genome: &Genome, file: &str) {
        let overhangs = |feature: &&Feature| {
            genome.get(&feature.contig).is_some_and(|contig| {
                contig.topology == Topology::Linear
                    && !self.circular.contains(&contig.name)
                    && feature.interval.end() > contig.bases.len() as u64
            })
        };
        let mut found = self.features.iter().filter(overhangs);
        if let Some(first) = found.next() {
            tracing::warn!(
                "{file}: {} features end past the end of a linear contig, the first on line {} \
                 ({}:{}); is the contig circular (--circular)?",
                found.count() + 1,
                first.line,
                first.contig,
                first.interval
            );
        }
    }
}

/// Whether the sequences begin, which end the annotation.
fn begins_fasta(line: &[u8]) -> bool {
    line.starts_with(b">") || line.trim_ascii_end() == b"##FASTA"
}

/// The feature on a line; `None` for comments, directives and blank lines.
fn parse_line(text: &[u8], line: u64) -> Result<Option<Feature>, String> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    // White space at the end, but for a tab before an empty last column.
    let end = text.iter().rposition(|byte| !b" \r\n".contains(byte));
    let mut text = &text[..end.map_or(0, |end| end + 1)];
    let mut parsed = gff::Line::default();
    gff::io::Reader::new(&mut text)
        .read_line(&mut parsed)
        .map_err(|error| error.to_string())?;
    match parsed.as_record() {
        None => Ok(None),
        Some(Ok(record)) => Feature::from_record(&record, line).map(Some),
        Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("expected nine columns with tabs between them".to_owned())
        }
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// Whether the feature lies on the genome.
fn check(feature: &Feature, genome: &Genome, file: &str) -> Result<(), GffError> {
    let known = || genome.contigs.iter().map(|contig| contig.name.as_str());
    let contig = genome
        .get(&feature.contig)
        .ok_or_else(|| GffError::UnknownContig {
            file: file.to_owned(),
            line: feature.line,
            contig: feature.contig.clone(),
            fasta: input_name(&genome.path),
            known: names::list(known()),
            suggestion: names::suggestion(&feature.contig, known()),
        })?;
    if feature.interval.start() >= contig.bases.len() as u64 {
        return Err(GffError::OutOfRange {
            file: file.to_owned(),
            line: feature.line,
            contig: feature.contig.clone(),
            interval: feature.interval,
            length: contig.bases.len() as u64,
            fasta: input_name(&genome.path),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coord::Strand;
    use crate::fasta::CircularSpec;

    const TEXT: &str = "##gff-version 3\n\n\
        chr\tRefSeq\tregion\t1\t20\t.\t+\t.\tID=chr:1..20;Is_circular=true\n\
        # a comment\n\
        chr\t.\tgene\t3\t5\t.\t-\t.\tID=gene-a;Name=abc;locus_tag=b0001;gene_synonym=x,y%2Cz\r\n\
        chr\t.\tCDS\t18\t22\t.\t+\t0\tID=cds-w;product=one%3B two\n\
        p\t.\tregion\t1\t9\t1.5\t.\t.\tIs_circular=true\n\
        p\t.\tgap\t2\t2\t.\t?\t.\t.\n\
        ##FASTA\n>chr\nACGT\n";

    fn genome() -> Genome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, ">chr\nACGTACGTACGTACGTAACC\n>p\nACGTA\n").unwrap();
        Genome::read(&path).unwrap()
    }

    fn parse(text: &str, genome: Option<&Genome>) -> Result<Annotation, String> {
        let path = Path::new("a.gff3");
        Annotation::parse(text.as_bytes(), path, genome).map_err(|error| error.to_string())
    }

    #[test]
    fn features_have_all_their_parts() {
        let annotation = parse(TEXT, None).unwrap();
        assert_eq!(annotation.features.len(), 5);
        let gene = &annotation.features[1];
        assert_eq!((gene.contig.as_str(), gene.kind.as_str()), ("chr", "gene"));
        assert_eq!((gene.interval.start(), gene.interval.end()), (2, 5));
        assert_eq!(gene.strand, Some(Strand::Reverse));
        assert_eq!((gene.phase, gene.line), (None, 5));
        assert_eq!(gene.id(), Some("gene-a"));
        assert_eq!(
            (gene.name(), gene.locus_tag()),
            (Some("abc"), Some("b0001"))
        );
        assert_eq!(gene.attributes.values("gene_synonym"), ["x", "y,z"]);
        assert_eq!(gene.attributes.values("none"), [""; 0]);
        let cds = annotation.of_kind("CDS").next().unwrap();
        assert_eq!(cds.phase, Some(0));
        assert_eq!(cds.attributes.get("product"), Some("one; two"));
        let gap = &annotation.features[4];
        assert_eq!((gap.strand, gap.id()), (None, None));
        assert_eq!(annotation.circular_contigs(), ["chr", "p"]);
    }

    #[test]
    fn a_part_of_a_replicon_is_not_circular() {
        let genome = genome();
        let annotation = parse(TEXT, Some(&genome)).unwrap();
        assert_eq!(annotation.circular_contigs(), ["chr"]);
    }

    #[test]
    fn sequences_follow_the_strand_and_cross_the_origin() {
        let mut genome = genome();
        let annotation = parse(TEXT, Some(&genome)).unwrap();
        let names = annotation
            .circular_contigs()
            .iter()
            .map(|name| name.to_string());
        let spec = CircularSpec::Names(names.collect());
        let contig = genome.get("chr").unwrap();
        assert_eq!(annotation.features[1].sequence(contig).unwrap(), b"TAC");
        assert_eq!(annotation.features[2].sequence(contig), None);
        genome.set_circular(&spec).unwrap();
        let contig = genome.get("chr").unwrap();
        assert_eq!(annotation.features[2].sequence(contig).unwrap(), b"ACCAC");
    }

    #[test]
    fn features_must_fit_the_genome() {
        let genome = genome();
        let with = |line: &str| parse(&format!("#\n{line}"), Some(&genome)).unwrap_err();
        let message = with("chrom\t.\tgene\t1\t5\t.\t+\t.\tID=x");
        assert!(
            message.contains("a.gff3, line 2: no contig \"chrom\""),
            "{message}"
        );
        assert!(message.contains("(contigs: chr, p)"), "{message}");
        assert!(message.contains("did you mean \"chr\""), "{message}");
        let message = with("p\t.\tgene\t6\t8\t.\t+\t.\tID=x");
        assert!(
            message.contains("a.gff3, line 2: p:6-8 begins past"),
            "{message}"
        );
        assert!(message.contains("5 bases"), "{message}");
    }

    #[test]
    fn bad_lines_are_told_apart() {
        for (line, what) in [
            ("chr\t.\tgene\t1\t5\t.\t+\t.", "expected nine columns"),
            ("chr\t.\tgene\t1\t5\t.\t+\t\t", "phase"),
            ("chr . gene 1 5 . + . ID=x", "expected nine columns"),
            ("chr\t.\tgene\t0\t5\t.\t+\t.\tID=x", "start"),
            ("chr\t.\tgene\t1\tfive\t.\t+\t.\tID=x", "end"),
            ("chr\t.\tgene\t5\t1\t.\t+\t.\tID=x", "end before its start"),
            ("chr\t.\tgene\t1\t5\t.\tplus\t.\tID=x", "strand"),
            ("chr\t.\tCDS\t1\t5\t.\t+\t3\tID=x", "phase"),
            ("chr\t.\tgene\t1\t5\t.\t+\t.\tgene_id \"x\"", "GTF"),
        ] {
            let message = parse(line, None).unwrap_err();
            assert!(message.starts_with("a.gff3, line 1: "), "{message}");
            assert!(message.contains(what), "{message}");
        }
    }
}
