//! What a variant does to the genes it lies in.

use std::collections::HashMap;
use std::fmt;

use cistron_genome::code::GeneticCode;
use cistron_genome::coord::{Interval, Strand, Topology};
use cistron_genome::fasta::{Contig, Genome};
use cistron_genome::gff::{Annotation, Feature};
use cistron_genome::revcomp;

use crate::allele::Alleles;

/// What one ALT does. Where features overlap, the last in this order is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consequence {
    /// Outside every feature that is looked at.
    Intergenic,
    /// In an RNA that is not translated.
    NonCoding,
    /// In a CDS that makes no protein (`pseudo=true`).
    Pseudogene,
    /// The protein stays.
    Synonymous,
    /// In a CDS whose codons there cannot be read, as in one that is cut off.
    Coding,
    /// Other amino acids.
    Missense,
    /// Whole codons come or go.
    InFrame,
    /// The stop codon is none any more.
    StopLost,
    /// The start codon is none any more.
    StartLost,
    /// A stop codon before the end.
    Nonsense,
    /// The frame shifts.
    Frameshift,
}

impl Consequence {
    /// Every consequence, in its order.
    pub const ALL: [Self; 11] = [
        Self::Intergenic,
        Self::NonCoding,
        Self::Pseudogene,
        Self::Synonymous,
        Self::Coding,
        Self::Missense,
        Self::InFrame,
        Self::StopLost,
        Self::StartLost,
        Self::Nonsense,
        Self::Frameshift,
    ];

    /// The word that stands for it in a VCF.
    pub fn word(self) -> &'static str {
        match self {
            Self::Intergenic => "intergenic",
            Self::NonCoding => "non_coding",
            Self::Pseudogene => "pseudogene",
            Self::Synonymous => "synonymous",
            Self::Coding => "coding",
            Self::Missense => "missense",
            Self::InFrame => "in_frame",
            Self::StopLost => "stop_lost",
            Self::StartLost => "start_lost",
            Self::Nonsense => "nonsense",
            Self::Frameshift => "frameshift",
        }
    }
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}, line {line}: transl_table={table} is not a genetic code known here; expected 1, 4, 11 \
     or 25"
)]
pub struct CodeError {
    file: String,
    line: u64,
    table: String,
}

/// The features of a genome that give a variant its consequence.
#[derive(Debug)]
pub struct Genes<'a> {
    genome: &'a Genome,
    /// By contig, sorted by start.
    contigs: HashMap<&'a str, OneContig>,
}

#[derive(Debug, Default)]
struct OneContig {
    genes: Vec<Gene>,
    /// The longest of them.
    longest: u64,
}

#[derive(Debug)]
struct Gene {
    name: String,
    span: Interval,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    NonCoding,
    Pseudogene,
    Coding(Cds),
}

#[derive(Debug)]
struct Cds {
    /// In the order of translation. The stop codon is in the last.
    parts: Vec<Interval>,
    strand: Strand,
    /// Bases before the first whole codon.
    phase: u64,
    code: GeneticCode,
}

impl<'a> Genes<'a> {
    /// Takes over the features of `annotation`; `fallback` is the code of those that name none.
    ///
    /// # Errors
    ///
    /// A CDS names a genetic code that is not known here.
    pub fn new(
        annotation: &'a Annotation,
        genome: &'a Genome,
        fallback: GeneticCode,
    ) -> Result<Self, CodeError> {
        let mut genes: HashMap<&str, OneContig> = HashMap::new();
        // Lines of one ID are parts of one CDS.
        let mut parts: HashMap<(&str, &str), usize> = HashMap::new();
        for feature in &annotation.features {
            let contig = genes.entry(feature.contig.as_str()).or_default();
            let known = feature
                .id()
                .filter(|_| feature.kind == "CDS")
                .and_then(|id| parts.get(&(feature.contig.as_str(), id)));
            if let Some(&known) = known {
                contig.genes[known].add(feature);
                continue;
            }
            let Some(kind) = kind(feature, annotation, fallback)? else {
                continue;
            };
            if let (Some(id), "CDS") = (feature.id(), feature.kind.as_str()) {
                parts.insert((&feature.contig, id), contig.genes.len());
            }
            contig.genes.push(Gene {
                name: name(feature),
                span: feature.interval,
                kind,
            });
        }
        for contig in genes.values_mut() {
            contig.genes.sort_by_key(|gene| gene.span);
            let lengths = contig.genes.iter().map(|gene| gene.span.len());
            contig.longest = lengths.max().unwrap_or(0);
        }
        Ok(Self {
            genome,
            contigs: genes,
        })
    }

    /// What a variant of `contig` does, and the gene it does it to.
    pub fn consequence(&self, contig: &Contig, alleles: &Alleles) -> (Consequence, Option<&str>) {
        let edit = Edit::new(alleles);
        let mut worst = (Consequence::Intergenic, None);
        let Some(genes) = self.contigs.get(contig.name.as_str()) else {
            return worst;
        };
        debug_assert!(self.genome.get(&contig.name).is_some());
        let turn = contig.bases.len() as u64;
        // A feature across the origin ends past the contig's length.
        let turns = match contig.topology {
            Topology::Linear => 1,
            Topology::Circular => 2,
        };
        for moved in (0..turns).map(|i| edit.moved(i * turn)) {
            let from = moved.start.saturating_sub(genes.longest);
            let first = genes.genes.partition_point(|gene| gene.span.start() < from);
            let near = genes.genes[first..].iter();
            for gene in near.take_while(|gene| gene.span.start() < moved.end.max(moved.start + 1)) {
                if !moved.touches(gene.span) {
                    continue;
                }
                let found = match &gene.kind {
                    Kind::NonCoding => Consequence::NonCoding,
                    Kind::Pseudogene => Consequence::Pseudogene,
                    Kind::Coding(cds) => match cds.consequence(contig, &moved) {
                        Some(found) => found,
                        None => continue,
                    },
                };
                if found > worst.0 {
                    worst = (found, Some(gene.name.as_str()));
                }
            }
        }
        worst
    }
}

impl Gene {
    /// Adds a part of the same CDS.
    fn add(&mut self, feature: &Feature) {
        let (start, end) = (
            self.span.start().min(feature.interval.start()),
            self.span.end().max(feature.interval.end()),
        );
        self.span = Interval::new(start, end).expect("both are intervals");
        let Kind::Coding(cds) = &mut self.kind else {
            return;
        };
        cds.parts.push(feature.interval);
        // Files give the parts by position or in the order of translation.
        let first = match cds.strand {
            Strand::Forward => {
                cds.parts.sort_by_key(|part| part.start());
                cds.parts[0]
            }
            Strand::Reverse => {
                cds.parts
                    .sort_by_key(|part| std::cmp::Reverse(part.start()));
                cds.parts[0]
            }
        };
        if first == feature.interval {
            cds.phase = u64::from(feature.phase.unwrap_or(0));
        }
    }
}

fn kind(
    feature: &Feature,
    annotation: &Annotation,
    fallback: GeneticCode,
) -> Result<Option<Kind>, CodeError> {
    let pseudo = feature.is_pseudo() || feature.attributes.get("pseudogene").is_some();
    let coding = |strand| {
        let code = match feature.attributes.get("transl_table") {
            None => fallback,
            Some(table) => {
                let known = table.parse().ok().and_then(GeneticCode::from_table);
                known.ok_or_else(|| CodeError {
                    file: annotation.path.display().to_string(),
                    line: feature.line,
                    table: table.to_owned(),
                })?
            }
        };
        Ok(Kind::Coding(Cds {
            parts: vec![feature.interval],
            strand,
            phase: u64::from(feature.phase.unwrap_or(0)),
            code,
        }))
    };
    Ok(match (feature.kind.as_str(), feature.strand) {
        ("CDS", _) if pseudo => Some(Kind::Pseudogene),
        ("pseudogene", _) => Some(Kind::Pseudogene),
        ("CDS", Some(strand)) => Some(coding(strand)?),
        ("rRNA" | "tRNA" | "ncRNA" | "tmRNA" | "SRP_RNA" | "RNase_P_RNA" | "antisense_RNA", _) => {
            Some(Kind::NonCoding)
        }
        _ => None,
    })
}

/// The name to print: a locus tag before a gene name before an ID.
fn name(feature: &Feature) -> String {
    let gene = feature.attributes.get("gene");
    let name = feature.locus_tag().or(gene).or(feature.id());
    name.unwrap_or(".").to_owned()
}

/// A variant less the bases that both alleles have at their ends.
#[derive(Clone, Debug)]
struct Edit {
    start: u64,
    end: u64,
    bases: Vec<u8>,
}

impl Edit {
    fn new(alleles: &Alleles) -> Self {
        let (mut from, mut to) = (&alleles.reference[..], &alleles.alternate[..]);
        while let ([a @ .., x], [b @ .., y]) = (from, to) {
            if x != y {
                break;
            }
            (from, to) = (a, b);
        }
        let mut start = alleles.position;
        while let ([x, a @ ..], [y, b @ ..]) = (from, to) {
            if x != y {
                break;
            }
            (from, to) = (a, b);
            start += 1;
        }
        Self {
            start,
            end: start + from.len() as u64,
            bases: to.to_vec(),
        }
    }

    fn moved(&self, by: u64) -> Self {
        Self {
            start: self.start + by,
            end: self.end + by,
            bases: self.bases.clone(),
        }
    }

    /// Whether it changes a base of the interval, or puts some between two of them.
    fn touches(&self, interval: Interval) -> bool {
        match self.start == self.end {
            true => interval.start() < self.start && self.start < interval.end(),
            false => self.start < interval.end() && interval.start() < self.end,
        }
    }
}

impl Cds {
    /// `None` where nothing of it is changed.
    fn consequence(&self, contig: &Contig, edit: &Edit) -> Option<Consequence> {
        if !self.parts.iter().any(|&part| edit.touches(part)) {
            return None;
        }
        let base = |at: u64| {
            contig
                .bases
                .get((at % contig.bases.len() as u64) as usize)
                .copied()
        };
        let mut reference = Vec::new();
        let mut alternate = Vec::new();
        // Index in both of the first coding base that the edit changes.
        let mut first = None;
        let mut inserted = false;
        for &part in &self.parts {
            let whole: Option<Vec<u8>> = part.range().map(base).collect();
            let Some(whole) = whole else {
                return Some(Consequence::Coding);
            };
            let (from, to) = (
                edit.start.clamp(part.start(), part.end()) - part.start(),
                edit.end.clamp(part.start(), part.end()) - part.start(),
            );
            let (from, to) = (from as usize, to as usize);
            let new = match edit.touches(part) {
                false => whole.clone(),
                // Bases given in place of some outside are taken to belong to none inside.
                true if inserted => [&whole[..from], &whole[to..]].concat(),
                true => {
                    inserted = true;
                    let outside = (edit.end - edit.start) as usize - (to - from);
                    let given = &edit.bases[..edit.bases.len().saturating_sub(outside)];
                    [&whole[..from], given, &whole[to..]].concat()
                }
            };
            if edit.touches(part) && first.is_none() {
                let within = match self.strand {
                    Strand::Forward => from,
                    Strand::Reverse => whole.len() - to,
                };
                first = Some(reference.len() + within);
            }
            let turned = |bases: Vec<u8>| match self.strand {
                Strand::Forward => bases,
                Strand::Reverse => revcomp(&bases),
            };
            reference.extend(turned(whole));
            alternate.extend(turned(new));
        }
        let phase = self.phase as usize;
        let Some(first) = first?.checked_sub(phase) else {
            return Some(Consequence::Coding);
        };
        let skip = |bases: Vec<u8>| bases.get(phase..).map(<[u8]>::to_vec);
        let (reference, alternate) = (skip(reference)?, skip(alternate).unwrap_or_default());
        Some(self.compare(&reference, &alternate, first))
    }

    fn compare(&self, reference: &[u8], alternate: &[u8], first: usize) -> Consequence {
        let code = self.code;
        if !reference.len().abs_diff(alternate.len()).is_multiple_of(3) {
            return Consequence::Frameshift;
        }
        let begins = |bases: &[u8]| bases.get(..3).is_some_and(|codon| code.is_start(codon));
        if first < 3 && begins(reference) && !begins(alternate) {
            return Consequence::StartLost;
        }
        let (before, mut after) = (code.translate(reference), code.translate(alternate));
        if after == before && reference.len() == alternate.len() {
            // A codon with an ambiguous base cannot be read.
            let codons = reference.chunks_exact(3).zip(alternate.chunks_exact(3));
            let unread = codons
                .zip(&before)
                .any(|((a, b), &aa)| a != b && aa == b'X');
            return if unread {
                Consequence::Coding
            } else {
                Consequence::Synonymous
            };
        }
        let ends = before.last() == Some(&b'*') && reference.len().is_multiple_of(3);
        // Stops that are there already are read through, as selenocysteine is.
        let at = first / 3;
        let tail = before
            .len()
            .saturating_sub(at + 1)
            .min(after.len().saturating_sub(at));
        let inside = &before[..before.len() - usize::from(ends)];
        let read_through = |i: usize, codon: &[u8]| {
            let same = |j: usize| {
                inside.get(j) == Some(&b'*') && reference.get(3 * j..3 * j + 3) == Some(codon)
            };
            let from_end = (i + before.len()).checked_sub(after.len());
            (i <= at && same(i)) || (after.len() - i <= tail && from_end.is_some_and(same))
        };
        let early = after[..after.len().saturating_sub(usize::from(ends))]
            .iter()
            .zip(alternate.chunks_exact(3))
            .enumerate()
            .any(|(i, (&aa, codon))| aa == b'*' && !read_through(i, codon));
        if early {
            return Consequence::Nonsense;
        }
        if ends && after.last() != Some(&b'*') {
            return Consequence::StopLost;
        }
        if reference.len() != alternate.len() {
            return Consequence::InFrame;
        }
        // Every start codon is read as Met.
        if begins(reference) && begins(alternate) {
            after[0] = before[0];
        }
        match after == before {
            true => Consequence::Synonymous,
            false => Consequence::Missense,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_genome::fasta::CircularSpec;

    fn run(
        bases: &str,
        gff: &[&str],
        circular: bool,
        variants: &[(u64, &str, &str)],
    ) -> Vec<String> {
        let folder = tempfile::tempdir().expect("folder");
        let (fasta, path) = (folder.path().join("g.fna"), folder.path().join("a.gff3"));
        std::fs::write(&fasta, format!(">c\n{bases}\n")).expect("written");
        let lines: String = gff
            .iter()
            .map(|line| format!("{}\n", line.replace(' ', "\t")))
            .collect();
        std::fs::write(&path, lines).expect("written");
        let mut genome = Genome::read(&fasta).expect("read");
        if circular {
            genome.set_circular(&CircularSpec::All).expect("known");
        }
        let annotation = Annotation::read(&path, Some(&genome)).expect("read");
        let genes = Genes::new(&annotation, &genome, GeneticCode::Eleven).expect("codes");
        let contig = &genome.contigs[0];
        let word = |&(pos, reference, alternate): &(u64, &str, &str)| {
            let end = pos as usize - 1 + reference.len();
            assert_eq!(&contig.bases[pos as usize - 1..end], reference.as_bytes());
            let alleles = Alleles {
                position: pos - 1,
                reference: reference.into(),
                alternate: alternate.into(),
            };
            let (found, gene) = genes.consequence(contig, &alleles);
            format!("{found}:{}", gene.unwrap_or("."))
        };
        variants.iter().map(word).collect()
    }

    // 4-18: ATG GCA TGG CTA TAA
    const BASES: &str = "CCCATGGCATGGCTATAACCC";
    const GENE: &str = "c . CDS 4 18 . + 0 ID=x;locus_tag=g";

    #[test]
    fn forward_genes() {
        let variants = [
            (3, "C", "A", "intergenic:."),
            (4, "A", "G", "synonymous:g"), // GTG starts too
            (4, "A", "C", "synonymous:g"), // CTG as well
            (5, "T", "C", "start_lost:g"),
            (9, "A", "G", "synonymous:g"),
            (8, "C", "A", "missense:g"),
            (11, "G", "A", "nonsense:g"),
            (12, "G", "A", "nonsense:g"),
            (18, "A", "G", "synonymous:g"), // TAG
            (16, "T", "C", "stop_lost:g"),
            (8, "C", "CA", "frameshift:g"),
            (7, "GC", "G", "frameshift:g"),
            (9, "A", "ACCC", "in_frame:g"),
            (9, "A", "ATAA", "nonsense:g"),
            (9, "ATGG", "A", "in_frame:g"),
            (3, "C", "CA", "intergenic:."),
            (18, "A", "AC", "intergenic:."),
            (3, "CATG", "C", "start_lost:g"),
            (8, "CAT", "GTC", "missense:g"),
        ];
        let given: Vec<_> = variants.iter().map(|v| (v.0, v.1, v.2)).collect();
        let expected: Vec<_> = variants.iter().map(|v| v.3).collect();
        assert_eq!(run(BASES, &[GENE], false, &given), expected);
    }

    #[test]
    fn reverse_genes_say_the_same() {
        let turned = String::from_utf8(revcomp(BASES.as_bytes())).expect("ascii");
        let line = GENE.replace('+', "-");
        let variants = [
            (19, "G", "T", "intergenic:."),
            (17, "A", "G", "start_lost:g"),
            (13, "T", "C", "synonymous:g"),
            (14, "G", "T", "missense:g"),
            (11, "C", "T", "nonsense:g"),
            (6, "A", "G", "stop_lost:g"),
            (13, "T", "TG", "frameshift:g"),
            (13, "T", "TGGG", "in_frame:g"),
        ];
        let given: Vec<_> = variants.iter().map(|v| (v.0, v.1, v.2)).collect();
        let expected: Vec<_> = variants.iter().map(|v| v.3).collect();
        assert_eq!(run(&turned, &[&line], false, &given), expected);
    }

    #[test]
    fn codes_differ_in_tga() {
        for (table, word) in [("4", "synonymous"), ("11", "nonsense"), ("25", "missense")] {
            let line = format!("{GENE};transl_table={table}");
            let found = run(BASES, &[&line], false, &[(12, "G", "A")]);
            assert_eq!(found, [format!("{word}:g")]);
        }
    }

    #[test]
    fn selenocysteine_is_read_through() {
        // ATG TGA GCA TAA
        let found = run(
            "ATGTGAGCATAA",
            &["c . CDS 1 12 . + 0 ID=x;locus_tag=g"],
            false,
            &[
                (9, "A", "G"),
                (8, "C", "A"),
                (6, "A", "C"),
                (5, "G", "A"),
                (7, "GCA", "TAA"),
            ],
        );
        let words: Vec<&str> = found
            .iter()
            .map(|word| word.trim_end_matches(":g"))
            .collect();
        assert_eq!(
            words,
            [
                "synonymous",
                "missense",
                "missense",
                "synonymous",
                "nonsense"
            ]
        );
    }

    #[test]
    fn parts_pseudogenes_and_the_origin() {
        // Across the origin: ATG GCA TAA begins at 10.
        let found = run(
            "GCATAACCCATG",
            &["c . CDS 10 18 . + 0 ID=x;locus_tag=o"],
            true,
            &[(11, "T", "C"), (2, "C", "A"), (4, "T", "C"), (8, "C", "A")],
        );
        assert_eq!(
            found,
            ["start_lost:o", "missense:o", "stop_lost:o", "intergenic:."]
        );
        // Two parts with a base between them: ATG GC|A TAA.
        let parts = [
            "c . CDS 1 5 . + 0 ID=x;locus_tag=p",
            "c . CDS 7 10 . + 1 ID=x;locus_tag=p",
        ];
        let found = run(
            "ATGGCTATAA",
            &parts,
            false,
            &[(7, "A", "C"), (6, "T", "A"), (5, "C", "A")],
        );
        assert_eq!(found, ["synonymous:p", "intergenic:.", "missense:p"]);
        let lines = [
            "c . CDS 4 18 . + 0 ID=x;locus_tag=g;pseudo=true",
            "c . tRNA 1 5 . + . ID=y;locus_tag=t",
        ];
        let found = run(
            BASES,
            &lines,
            false,
            &[(11, "G", "A"), (2, "C", "A"), (4, "A", "C")],
        );
        assert_eq!(found, ["pseudogene:g", "non_coding:t", "pseudogene:g"]);
    }

    #[test]
    fn an_unknown_code_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let (fasta, path) = (folder.path().join("g.fna"), folder.path().join("a.gff3"));
        std::fs::write(&fasta, ">c\nACGT\n").expect("written");
        std::fs::write(&path, "c\t.\tCDS\t1\t4\t.\t+\t0\tID=x;transl_table=99\n").expect("written");
        let genome = Genome::read(&fasta).expect("read");
        let annotation = Annotation::read(&path, Some(&genome)).expect("read");
        let error = Genes::new(&annotation, &genome, GeneticCode::Eleven).expect_err("unknown");
        assert!(
            error.to_string().contains("line 1: transl_table=99"),
            "{error}"
        );
    }
}
