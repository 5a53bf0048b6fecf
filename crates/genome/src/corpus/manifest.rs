//! `manifest.json`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CorpusError;
use crate::coord::ContigName;

/// Number of the corpus format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// What a genome is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To train on.
    #[default]
    Train,
    /// To validate on.
    Val,
}

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the corpus, [`FORMAT`].
    pub format: u32,
    /// Version of the tool that built it.
    pub tool_version: String,
    /// Length of `bases.2bit`, bytes.
    pub packed_bytes: u64,
    /// Number of runs in `runs.bin`.
    pub runs: u64,
    /// Whether there is a `codons.bits`, half as long as `bases.2bit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub codons: bool,
    /// The genomes, in corpus order.
    pub genomes: Vec<GenomeEntry>,
}

/// One genome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenomeEntry {
    /// Its name, distinct within the corpus.
    pub name: String,
    /// File name (without folders) of the FASTA it came from.
    pub source: String,
    /// What it is for.
    pub split: Split,
    /// Its lineage, from coarse to fine with `/` between; empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lineage: String,
    /// Name of the first genome of its cluster of near-duplicates; none when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What a base of it counts when windows are drawn: 1, divided by the number of
    /// near-duplicates in its split.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// SHA-256 of names and bases, equal to [`crate::fasta::Genome::digest`].
    pub sha256: String,
    /// Number of bases.
    pub bases: u64,
    /// (G + C) / (A + C + G + T); 0 when there is none of these.
    pub gc: f64,
    /// Number of bases other than A, C, G and T.
    pub ambiguous: u64,
    /// Its contigs, in file order.
    pub contigs: Vec<ContigEntry>,
}

fn one() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over references
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

/// One contig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContigEntry {
    /// First word of the FASTA header.
    pub name: ContigName,
    /// The rest of the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Number of bases.
    pub length: u64,
    /// Where it begins in `bases.2bit`, counted in bases; a multiple of four.
    pub offset: u64,
    /// Bases on its first line in the FASTA; 0 for a contig without bases.
    pub line_width: usize,
}

impl ContigEntry {
    /// Length in `bases.2bit`, bytes.
    pub(super) fn packed_bytes(&self) -> u64 {
        self.length.div_ceil(4)
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When it cannot be read or understood, has another format, or contradicts itself.
    pub(super) fn read(path: &Path) -> Result<Self, CorpusError> {
        let file = File::open(path).map_err(CorpusError::read(path))?;
        let value: serde_json::Value =
            serde_json::from_reader(BufReader::new(file)).map_err(|source| {
                CorpusError::Manifest {
                    path: path.to_owned(),
                    source,
                }
            })?;
        // The format first: the fields of another one may differ.
        if let Some(found) = value.get("format").and_then(serde_json::Value::as_u64)
            && found != u64::from(FORMAT)
        {
            return Err(CorpusError::Format {
                path: path.to_owned(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
                expected: FORMAT,
            });
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|source| CorpusError::Manifest {
                path: path.to_owned(),
                source,
            })?;
        manifest.check().map_err(|what| CorpusError::Changed {
            path: path.to_owned(),
            what,
        })?;
        Ok(manifest)
    }

    /// Whether contigs follow one another and add up; else what does not.
    fn check(&self) -> Result<(), String> {
        let mut packed_bytes: u64 = 0;
        for genome in &self.genomes {
            let mut bases: u64 = 0;
            for contig in &genome.contigs {
                if packed_bytes.checked_mul(4) != Some(contig.offset) {
                    let (genome, contig) = (&genome.name, &contig.name);
                    return Err(format!("wrong offset of contig {contig:?} of {genome:?}"));
                }
                packed_bytes = packed_bytes.saturating_add(contig.packed_bytes());
                bases = bases.saturating_add(contig.length);
            }
            if !(genome.weight >= 0.0 && genome.weight.is_finite()) {
                let (name, weight) = (&genome.name, genome.weight);
                return Err(format!("the weight of {name:?} is {weight}"));
            }
            if bases != genome.bases {
                let (name, stated) = (&genome.name, genome.bases);
                return Err(format!(
                    "the contigs of {name:?} have {bases} bases and not {stated}"
                ));
            }
        }
        if packed_bytes != self.packed_bytes {
            let stated = self.packed_bytes;
            return Err(format!(
                "the contigs take {packed_bytes} bytes and not {stated}"
            ));
        }
        Ok(())
    }
}
