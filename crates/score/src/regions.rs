//! What kind of sequence each base belongs to.

use cistron_genome::coord::Topology;
use cistron_genome::fasta::Contig;
use cistron_genome::gff::Annotation;

/// Annotation classes, from the most to the least specific; where features
/// overlap, the first in this list names the base.
pub const CLASSES: [&str; 6] = ["rRNA", "tRNA", "pseudogene", "CDS", "ncRNA", "intergenic"];

/// Number of the last class, for bases without a feature.
pub const INTERGENIC: u8 = CLASSES.len() as u8 - 1;

/// Class of each base of a contig, as an index into [`CLASSES`].
///
/// A feature that ends past a contig's end goes on at the start of a circular one, and
/// stops at the end of a linear one.
pub fn classify(annotation: &Annotation, contig: &Contig) -> Vec<u8> {
    let length = contig.bases.len();
    let mut classes = vec![INTERGENIC; length];
    for feature in annotation
        .features
        .iter()
        .filter(|f| f.contig == contig.name)
    {
        let class = match feature.kind.as_str() {
            "rRNA" => 0,
            "tRNA" => 1,
            "pseudogene" => 2,
            "CDS" if feature.is_pseudo() => 2,
            "CDS" => 3,
            "ncRNA" | "tmRNA" | "SRP_RNA" | "RNase_P_RNA" | "antisense_RNA" => 4,
            _ => continue,
        };
        let range = feature.interval.range();
        let last = match contig.topology {
            Topology::Linear => length as u64,
            Topology::Circular => range.start + length as u64,
        };
        for base in range.start..range.end.min(last) {
            let slot = &mut classes[(base % length as u64) as usize];
            *slot = (*slot).min(class);
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_wrap_on_circular_contigs_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.gff3");
        let line = |kind, from, to: u64| format!("c\tx\t{kind}\t{from}\t{to}\t.\t+\t0\tID=a\n");
        let text = line("CDS", 3, 4) + &line("tRNA", 4, 4) + &line("CDS", 6, 9);
        let classes = |text: &str, topology| {
            std::fs::write(&path, text).expect("writable");
            let contig = Contig {
                name: "c".into(),
                description: String::new(),
                bases: b"ACGTACGT".to_vec(),
                topology,
            };
            let annotation = Annotation::read(&path, None).expect("valid");
            let letters = |class: &u8| char::from(b"rtpcn."[usize::from(*class)]);
            classify(&annotation, &contig)
                .iter()
                .map(letters)
                .collect::<String>()
        };
        assert_eq!(classes(&text, Topology::Linear), "..ct.ccc");
        assert_eq!(classes(&text, Topology::Circular), "c.ct.ccc");
        // An end far outside takes no time: at most one turn is walked.
        let endless = line("CDS", 5, 4_000_000_000_000_000_000);
        assert_eq!(classes(&endless, Topology::Linear), "....cccc");
        assert_eq!(classes(&endless, Topology::Circular), "cccccccc");
    }
}
