//! A genome held in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{FastaError, Piece, Reader};
use crate::compression::input_name;
use crate::coord::{ContigName, Topology};
use crate::names;

/// One sequence of a genome: a chromosome, a plasmid or a piece of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contig {
    /// First word of the FASTA header.
    pub name: ContigName,
    /// The rest of the header; may be empty.
    pub description: String,
    /// Upper-case ASCII bases; may be empty.
    pub bases: Vec<u8>,
    /// Linear unless [`Genome::set_circular`] said otherwise.
    pub topology: Topology,
}

/// Which contigs are circular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CircularSpec {
    /// None beyond those that are so already.
    #[default]
    None,
    /// All of them.
    All,
    /// Those with these names.
    Names(Vec<String>),
}

/// All sequences of one FASTA file, in file order.
#[derive(Clone, Debug)]
pub struct Genome {
    /// The file.
    pub path: PathBuf,
    /// The sequences; no two share a name.
    pub contigs: Vec<Contig>,
    index: HashMap<ContigName, usize>,
}

impl Genome {
    /// Reads a plain, gzip or BGZF FASTA file; `-` is standard input. Every contig is
    /// linear at first. A record without bases is kept and a warning logged.
    ///
    /// # Errors
    /// As [`Reader::next_piece`].
    pub fn read(path: &Path) -> Result<Self, FastaError> {
        let mut reader = Reader::open(path)?;
        let mut contigs: Vec<Contig> = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            match piece {
                Piece::Header(header) => contigs.push(Contig {
                    name: header.name,
                    description: header.description,
                    bases: Vec::new(),
                    topology: Topology::Linear,
                }),
                Piece::Bases(bases) => {
                    if let Some(contig) = contigs.last_mut() {
                        contig.bases.extend_from_slice(bases);
                    }
                }
            }
        }
        for contig in contigs.iter().filter(|contig| contig.bases.is_empty()) {
            let file = input_name(path);
            tracing::warn!("{file}: contig {:?} has no bases", contig.name.as_str());
        }
        let names = contigs.iter().enumerate();
        let index = names.map(|(i, contig)| (contig.name.clone(), i)).collect();
        Ok(Self {
            path: path.to_owned(),
            contigs,
            index,
        })
    }

    /// The contig with this name.
    pub fn get(&self, name: &str) -> Option<&Contig> {
        self.index_of(name).map(|i| &self.contigs[i])
    }

    /// Index in [`Genome::contigs`] of the contig with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Number of bases of all contigs.
    pub fn total_len(&self) -> u64 {
        let lengths = self.contigs.iter().map(|contig| contig.bases.len() as u64);
        lengths.sum()
    }

    /// Makes contigs circular; the others keep their topology, which is linear at first.
    ///
    /// # Errors
    /// When a name is not that of a contig; nothing is changed then.
    pub fn set_circular(&mut self, spec: &CircularSpec) -> Result<(), FastaError> {
        let chosen: Vec<usize> = match spec {
            CircularSpec::None => Vec::new(),
            CircularSpec::All => (0..self.contigs.len()).collect(),
            CircularSpec::Names(names) => {
                let found = names.iter().map(|name| self.require(name));
                found.collect::<Result<_, _>>()?
            }
        };
        for i in chosen {
            self.contigs[i].topology = Topology::Circular;
        }
        Ok(())
    }

    /// Index of the contig with this name.
    ///
    /// # Errors
    /// When there is none; the error lists the names there are.
    pub fn require(&self, name: &str) -> Result<usize, FastaError> {
        self.index_of(name).ok_or_else(|| {
            let known = || self.contigs.iter().map(|contig| contig.name.as_str());
            FastaError::UnknownContig {
                file: input_name(&self.path),
                name: name.to_owned(),
                known: names::list(known()),
                suggestion: names::suggestion(name, known()),
            }
        })
    }

    /// SHA-256, in hex, over `name`, a zero byte, the bases and a line feed of each contig.
    /// It does not depend on case, line width, descriptions or compression.
    pub fn digest(&self) -> String {
        let mut digest = SequenceDigest::default();
        for contig in &self.contigs {
            digest.begin(&contig.name);
            digest.update(&contig.bases);
        }
        digest.finish()
    }
}

/// [`Genome::digest`] of a genome that comes piece by piece.
#[derive(Clone, Default)]
pub struct SequenceDigest {
    hash: Sha256,
    open: bool,
}

impl SequenceDigest {
    /// A contig begins.
    pub fn begin(&mut self, name: &str) {
        self.end();
        self.hash.update(name.as_bytes());
        self.hash.update([0]);
        self.open = true;
    }

    /// Some more upper-case bases of the contig.
    pub fn update(&mut self, bases: &[u8]) {
        self.hash.update(bases);
    }

    /// The digest in hex.
    pub fn finish(mut self) -> String {
        self.end();
        let bytes = self.hash.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            self.hash.update(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genome(text: &str) -> Genome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, text).unwrap();
        Genome::read(&path).unwrap()
    }

    #[test]
    fn contigs_are_found_by_name() {
        let genome = genome(">chr the one\nacg\nT\n>p1\n>p2\nNN\n");
        assert_eq!(genome.contigs.len(), 3);
        assert_eq!(genome.get("chr").unwrap().bases, b"ACGT");
        assert_eq!(genome.get("chr").unwrap().description, "the one");
        assert!(genome.get("p1").unwrap().bases.is_empty());
        assert_eq!(genome.index_of("p2"), Some(2));
        assert_eq!(genome.index_of("p"), None);
        assert_eq!(genome.total_len(), 6);
    }

    #[test]
    fn circular_contigs_are_named_or_all() {
        let mut genome = genome(">chr\nA\n>p1\nA\n");
        let circular = |genome: &Genome| -> Vec<bool> {
            let contigs = genome.contigs.iter();
            contigs
                .map(|contig| contig.topology == Topology::Circular)
                .collect()
        };
        let names = CircularSpec::Names(vec!["p1".into()]);
        genome.set_circular(&names).unwrap();
        assert_eq!(circular(&genome), [false, true]);
        genome.set_circular(&CircularSpec::None).unwrap();
        assert_eq!(circular(&genome), [false, true]);
        genome.set_circular(&CircularSpec::All).unwrap();
        assert_eq!(circular(&genome), [true, true]);
    }

    #[test]
    fn an_unknown_circular_contig_changes_nothing() {
        let mut genome = genome(">chr\nA\n>p1\nA\n");
        let names = CircularSpec::Names(vec!["p1".into(), "ch".into()]);
        let message = genome.set_circular(&names).unwrap_err().to_string();
        assert!(
            message.contains("no contig \"ch\" (contigs: chr, p1)"),
            "{message}"
        );
        assert!(message.contains("did you mean \"chr\""), "{message}");
        assert_eq!(genome.get("p1").unwrap().topology, Topology::Linear);
    }

    #[test]
    fn the_digest_is_of_names_and_bases_alone() {
        let one = genome(">a first\nACGT\nAC\n>b\n").digest();
        assert_eq!(one, genome(">a\nacgtac\n>b\n\n").digest());
        assert_ne!(one, genome(">a\nACGTA\n>b\nC\n").digest());
        assert_ne!(one, genome(">b\nACGTAC\n>a\n").digest());
        // sha256 of "a", NUL, "ACGTAC", LF, "b", NUL, LF, from an outside tool.
        assert_eq!(
            one,
            "40ccfcddad5c0dc6b852eda32290a705269e81e637127b92c68e87d7f89686b2"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Genome::read(Path::new("no/such.fna"))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("no/such.fna: "), "{message}");
    }
}
