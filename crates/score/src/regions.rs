//! What kind of sequence each base belongs to.

use cistron_genome::gff::Annotation;

/// Annotation classes, from the most to the least specific; where features
/// overlap, the first in this list names the base.
pub const CLASSES: [&str; 6] = ["rRNA", "tRNA", "pseudogene", "CDS", "ncRNA", "intergenic"];

/// Number of the last class, for bases without a feature.
pub const INTERGENIC: u8 = CLASSES.len() as u8 - 1;

/// Class of each base of a contig, as an index into [`CLASSES`].
pub fn classify(annotation: &Annotation, contig: &str, length: usize) -> Vec<u8> {
    let mut classes = vec![INTERGENIC; length];
    for feature in annotation
        .features
        .iter()
        .filter(|f| f.contig.as_str() == contig)
    {
        let pseudo = feature.attributes.get("pseudo") == Some("true");
        let class = match feature.kind.as_str() {
            "rRNA" => 0,
            "tRNA" => 1,
            "pseudogene" => 2,
            "CDS" if pseudo => 2,
            "CDS" => 3,
            "ncRNA" | "tmRNA" | "SRP_RNA" | "RNase_P_RNA" | "antisense_RNA" => 4,
            _ => continue,
        };
        for base in feature.interval.range() {
            // Past the end of a circular contig the feature goes on at its start.
            if let Some(slot) = classes.get_mut((base % length.max(1) as u64) as usize) {
                *slot = (*slot).min(class);
            }
        }
    }
    classes
}
