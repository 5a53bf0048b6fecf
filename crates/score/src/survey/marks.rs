//! What each base is to a reader of one strand.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::gff::{Annotation, Feature};
use serde::Serialize;

/// A kind of base. A base may have several marks; marks of genes mean genes on the strand that
/// is read, unless they say `antisense`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Every base.
    All,
    /// Bases of protein-coding genes.
    Coding,
    /// First base of a codon.
    Codon1,
    /// Second base of a codon.
    Codon2,
    /// Third base of a codon.
    Codon3,
    /// First base of a codon on the other strand.
    Antisense1,
    /// Second base of a codon on the other strand.
    Antisense2,
    /// Third base of a codon on the other strand.
    Antisense3,
    /// The three bases of a start codon.
    StartCodon,
    /// The three bases of a stop codon.
    StopCodon,
    /// Four or more bases of AGGAGG, 5 to 18 bases before a start codon.
    ShineDalgarno,
    /// A `promoter` of the annotation; else bases between genes, up to 100 before a gene.
    Promoter,
    /// Transfer RNA, on the strand that is read.
    TransferRna,
    /// Ribosomal RNA, on the strand that is read.
    RibosomalRna,
    /// Bases without a gene on either strand.
    Intergenic,
}

/// All marks, in the order of their bits.
pub const MARKS: [Mark; 15] = [
    Mark::All,
    Mark::Coding,
    Mark::Codon1,
    Mark::Codon2,
    Mark::Codon3,
    Mark::Antisense1,
    Mark::Antisense2,
    Mark::Antisense3,
    Mark::StartCodon,
    Mark::StopCodon,
    Mark::ShineDalgarno,
    Mark::Promoter,
    Mark::TransferRna,
    Mark::RibosomalRna,
    Mark::Intergenic,
];

impl Mark {
    pub(super) fn bit(self) -> u16 {
        1 << self as u16
    }

    /// Words for people.
    pub fn label(self) -> &'static str {
        match self {
            Mark::All => "all bases",
            Mark::Coding => "coding",
            Mark::Codon1 => "codon position 1",
            Mark::Codon2 => "codon position 2",
            Mark::Codon3 => "codon position 3",
            Mark::Antisense1 => "antisense position 1",
            Mark::Antisense2 => "antisense position 2",
            Mark::Antisense3 => "antisense position 3",
            Mark::StartCodon => "start codon",
            Mark::StopCodon => "stop codon",
            Mark::ShineDalgarno => "Shine-Dalgarno site",
            Mark::Promoter => "promoter region",
            Mark::TransferRna => "tRNA",
            Mark::RibosomalRna => "rRNA",
            Mark::Intergenic => "intergenic",
        }
    }
}

/// Bases before a gene that count as its promoter region where they lie between genes.
const UPSTREAM: u64 = 100;
/// The consensus that the end of 16S rRNA binds.
const ANTI: &[u8] = b"AGGAGG";

/// Whether a feature is a protein-coding gene that is not broken.
pub(super) fn is_coding(feature: &Feature) -> bool {
    feature.kind == "CDS" && !feature.is_pseudo()
}

/// Bits of the marks of each base of a contig, for a reader of `strand`.
pub fn marks(annotation: Option<&Annotation>, contig: &Contig, strand: Strand) -> Vec<u16> {
    let mut marks = vec![Mark::All.bit(); contig.bases.len()];
    let Some(annotation) = annotation else {
        return marks;
    };
    let mut canvas = Canvas {
        contig,
        strand,
        marks: &mut marks,
    };
    let features: Vec<&Feature> = annotation
        .features
        .iter()
        .filter(|feature| feature.contig == contig.name)
        .collect();
    // Genes on either strand, to know what lies between.
    let occupied = |kind: &str| {
        matches!(
            kind,
            "gene" | "pseudogene" | "CDS" | "tRNA" | "rRNA" | "ncRNA" | "tmRNA"
        )
    };
    let mut taken = vec![false; contig.bases.len()];
    for feature in features.iter().filter(|f| occupied(&f.kind)) {
        for base in canvas.bases(feature.interval.start(), feature.interval.end()) {
            taken[base] = true;
        }
    }
    for (mark, taken) in canvas.marks.iter_mut().zip(&taken) {
        if !taken {
            *mark |= Mark::Intergenic.bit();
        }
    }
    let promoters = features.iter().any(|feature| feature.kind == "promoter");
    for feature in &features {
        let sense = feature.strand == Some(strand);
        let span = (feature.interval.start(), feature.interval.end());
        match feature.kind.as_str() {
            "tRNA" if sense => canvas.paint(span, Mark::TransferRna),
            "rRNA" if sense => canvas.paint(span, Mark::RibosomalRna),
            "promoter" if sense => canvas.paint(span, Mark::Promoter),
            "CDS" if is_coding(feature) => canvas.gene(feature, sense, &features),
            _ => {}
        }
        let heads = matches!(feature.kind.as_str(), "gene" | "tRNA" | "rRNA" | "CDS");
        if sense && heads && !promoters {
            for base in canvas.before(feature, UPSTREAM) {
                // The last gene upstream ends what belongs to this one.
                if taken[base] {
                    break;
                }
                canvas.marks[base] |= Mark::Promoter.bit();
            }
        }
    }
    marks
}

struct Canvas<'a> {
    contig: &'a Contig,
    strand: Strand,
    marks: &'a mut [u16],
}

impl Canvas<'_> {
    /// Bases of `start..end`, across the origin of a circular contig.
    fn bases(&self, start: u64, end: u64) -> impl Iterator<Item = usize> + use<> {
        let length = self.contig.bases.len() as u64;
        let last = match self.contig.topology {
            Topology::Linear => length,
            Topology::Circular => start + length,
        };
        (start..end.min(last)).map(move |base| (base % length) as usize)
    }

    fn paint(&mut self, (start, end): (u64, u64), mark: Mark) {
        for base in self.bases(start, end) {
            self.marks[base] |= mark.bit();
        }
    }

    /// The `count` bases before a feature in its own direction, nearest first.
    fn before(&self, feature: &Feature, count: u64) -> Vec<usize> {
        let length = self.contig.bases.len() as i64;
        let (start, end) = (
            feature.interval.start() as i64,
            feature.interval.end() as i64,
        );
        (1..=count as i64)
            .map(|i| match feature.strand {
                Some(Strand::Reverse) => end - 1 + i,
                _ => start - i,
            })
            .filter_map(|base| match self.contig.topology {
                Topology::Circular => Some(base.rem_euclid(length) as usize),
                Topology::Linear => (0..length).contains(&base).then_some(base as usize),
            })
            .collect()
    }

    fn gene(&mut self, feature: &Feature, sense: bool, features: &[&Feature]) {
        let (start, end) = (feature.interval.start(), feature.interval.end());
        let phase = u64::from(feature.phase.unwrap_or(0));
        let own = feature.strand.unwrap_or(Strand::Forward);
        let positions = if sense {
            [Mark::Codon1, Mark::Codon2, Mark::Codon3]
        } else {
            [Mark::Antisense1, Mark::Antisense2, Mark::Antisense3]
        };
        for (i, base) in self.bases(start, end).enumerate() {
            let into = match own {
                Strand::Forward => i as u64,
                Strand::Reverse => end - start - 1 - i as u64,
            };
            let position = (into + 3 - phase) % 3;
            self.marks[base] |= positions[position as usize].bit();
            if sense {
                self.marks[base] |= Mark::Coding.bit();
            }
        }
        // The ends of genes of one part that are not cut off.
        let parts = feature.id().map_or(1, |id| {
            features
                .iter()
                .filter(|f| f.kind == "CDS" && f.id() == Some(id))
                .count()
        });
        let partial = feature.attributes.get("partial") == Some("true");
        if !sense || parts != 1 || partial || end - start < 9 || phase != 0 {
            return;
        }
        let (head, tail) = match own {
            Strand::Forward => ((start, start + 3), (end - 3, end)),
            Strand::Reverse => ((end - 3, end), (start, start + 3)),
        };
        self.paint(head, Mark::StartCodon);
        self.paint(tail, Mark::StopCodon);
        self.shine_dalgarno(feature);
    }

    /// The longest stretch of the consensus before a gene, where it has at least four bases.
    fn shine_dalgarno(&mut self, feature: &Feature) {
        let places: Vec<usize> = self.before(feature, 18).into_iter().skip(4).rev().collect();
        let bases: Vec<u8> = places
            .iter()
            .map(|&place| match self.strand {
                Strand::Forward => self.contig.bases[place],
                Strand::Reverse => complement(self.contig.bases[place]),
            })
            .collect();
        for length in (4..=ANTI.len()).rev() {
            let found = ANTI
                .windows(length)
                .find_map(|part| bases.windows(length).rposition(|window| window == part));
            if let Some(at) = found {
                for &place in &places[at..at + length] {
                    self.marks[place] |= Mark::ShineDalgarno.bit();
                }
                return;
            }
        }
    }
}

/// The base on the other strand.
pub(super) fn complement(base: u8) -> u8 {
    match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::survey) fn annotation(text: &str) -> Annotation {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.gff3");
        std::fs::write(&path, text.replace(' ', "\t")).expect("written");
        Annotation::read(&path, None).expect("read")
    }

    fn letters(marks: &[u16], mark: Mark) -> String {
        let letter = |bits: &u16| if bits & mark.bit() == 0 { '.' } else { '#' };
        marks.iter().map(letter).collect()
    }

    #[test]
    fn a_gene_and_its_surroundings() {
        //            0         1         2         3
        //            0123456789012345678901234567890123456
        let bases = b"TTTTTAAGGAGGTTTTTTATGAAACCCTAATTTTTTT";
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases: bases.to_vec(),
            topology: Topology::Linear,
        };
        let forward = annotation("c . CDS 19 30 . + 0 ID=a\n");
        let marked = marks(Some(&forward), &contig, Strand::Forward);
        let shown = |mark| letters(&marked, mark);
        assert_eq!(shown(Mark::Codon1), "..................#..#..#..#.........");
        assert_eq!(shown(Mark::Codon3), "....................#..#..#..#.......");
        assert_eq!(
            shown(Mark::StartCodon),
            "..................###................"
        );
        assert_eq!(
            shown(Mark::StopCodon),
            "...........................###......."
        );
        assert_eq!(
            shown(Mark::ShineDalgarno),
            "......######........................."
        );
        assert_eq!(
            shown(Mark::Promoter),
            "##################..................."
        );
        assert_eq!(
            shown(Mark::Intergenic),
            "##################............#######"
        );
        assert_eq!(shown(Mark::Antisense1), ".".repeat(37));
        let other = marks(Some(&forward), &contig, Strand::Reverse);
        assert_eq!(letters(&other, Mark::Antisense1), shown(Mark::Codon1));
        assert_eq!(letters(&other, Mark::Coding), ".".repeat(37));
        // The mirror image has the mirrored marks.
        let turned = Contig {
            bases: cistron_genome::revcomp(bases),
            ..contig.clone()
        };
        let reverse = annotation("c . CDS 8 19 . - 0 ID=a\n");
        let mut mirrored = marks(Some(&reverse), &turned, Strand::Reverse);
        mirrored.reverse();
        assert_eq!(mirrored, marked);
        assert!(
            marks(None, &contig, Strand::Forward)
                .iter()
                .all(|&bits| bits == 1)
        );
    }

    #[test]
    fn genes_cross_the_origin_and_phases_shift() {
        let contig = Contig {
            name: "c".into(),
            description: String::new(),
            bases: vec![b'A'; 20],
            topology: Topology::Circular,
        };
        let crossing = annotation("c . CDS 15 26 . + 1 ID=a\n");
        let marked = marks(Some(&crossing), &contig, Strand::Forward);
        assert_eq!(letters(&marked, Mark::Codon1), ".#..#..........#..#.");
        let rna = annotation("c . rRNA 1 4 . - . ID=r\nc . tRNA 6 7 . + . ID=t\n");
        let marked = marks(Some(&rna), &contig, Strand::Reverse);
        assert_eq!(letters(&marked, Mark::RibosomalRna), "####................");
        assert_eq!(letters(&marked, Mark::TransferRna), ".".repeat(20));
    }
}
