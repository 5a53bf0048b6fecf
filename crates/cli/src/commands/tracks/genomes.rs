//! Genomes with their annotations and folders.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cistron_genome::compression::{input_name, open_input};
use cistron_genome::fasta::Genome;
use cistron_genome::gff::Annotation;
use cistron_tracks::ContigSize;
use cistron_tracks::genes::Scores;

use super::Tracks;
use crate::commands::score;
use crate::failure::Usage;

/// One genome to read.
pub(super) struct Input {
    /// Name of the assembly, from the file's.
    pub name: String,
    /// Folder of its tracks.
    pub out: PathBuf,
    pub genome: Genome,
    pub gff: Option<PathBuf>,
    pub annotation: Option<Annotation>,
    pub scores: Scores,
}

impl Input {
    /// Names and lengths of the contigs.
    pub fn sizes(&self) -> Vec<ContigSize> {
        let contigs = self.genome.contigs.iter();
        contigs
            .map(|contig| ContigSize::new(contig.name.clone(), contig.bases.len() as u64))
            .collect()
    }
}

/// File name up to the ending that says what it is.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".gz").trim_end_matches(".bgz");
    let endings = [".fasta", ".fna", ".fa", ".gff3", ".gff"];
    let cut = endings.iter().find_map(|ending| name.strip_suffix(ending));
    cut.unwrap_or(name).to_owned()
}

/// A name that needs no quotes anywhere.
fn plain(stem: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = stem.chars().map(keep).collect();
    match name.trim_start_matches('.') {
        "" => "genome".to_owned(),
        name => name.to_owned(),
    }
}

/// Reads all genomes of a command.
pub(super) fn read(command: &Tracks) -> anyhow::Result<Vec<Input>> {
    let several = command.fasta.len() > 1;
    if several && !(command.circular.is_empty() || command.circular == ["all"]) {
        return Err(Usage("--circular with names goes with one FASTA".into()).into());
    }
    let scores = match &command.gene_scores {
        Some(path) => read_scores(path)?,
        None => Scores::default(),
    };
    let mut annotations: HashMap<String, &PathBuf> = HashMap::new();
    for path in &command.gff {
        if annotations.insert(stem(path), path).is_some() {
            return Err(Usage(format!("--gff {}: two of that name", path.display())).into());
        }
    }
    let mut inputs: Vec<Input> = Vec::new();
    for fasta in &command.fasta {
        let stem = stem(fasta);
        let gff = match (several, command.gff.as_slice()) {
            (false, [only]) => Some(only.clone()),
            _ => annotations.remove(&stem).cloned(),
        };
        let name = plain(&stem);
        if inputs.iter().any(|other| other.name == name) {
            return Err(Usage(format!(
                "--fasta {}: another genome has the name {name}; rename one",
                fasta.display()
            ))
            .into());
        }
        let (genome, annotation) = score::read_genome(fasta, gff.as_deref(), &command.circular)?;
        let out = if several {
            command.out.join(&name)
        } else {
            command.out.clone()
        };
        inputs.push(Input {
            name,
            out,
            genome,
            gff,
            annotation,
            scores: scores.clone(),
        });
    }
    if (several || command.gff.len() > 1)
        && let Some(path) = annotations.values().next()
    {
        return Err(Usage(format!(
            "--gff {}: no genome of that name; an annotation has its FASTA's name with the ending \
             .gff3 or .gff",
            path.display()
        ))
        .into());
    }
    Ok(inputs)
}

/// Scores by locus tag from a table of `score genes`.
fn read_scores(path: &Path) -> anyhow::Result<Scores> {
    let file = input_name(path);
    let mut lines = std::io::BufRead::lines(open_input(path)?);
    let header = lines.next().transpose()?.unwrap_or_default();
    let column = |name: &str| header.split('\t').position(|found| found == name);
    let (Some(tag), Some(score)) = (column("locus_tag"), column("score")) else {
        anyhow::bail!(
            "{file}: has no columns locus_tag and score; give a table of `cistron score genes`"
        );
    };
    let mut scores = Scores::new();
    for (number, line) in (2..).zip(lines) {
        let line = line?;
        let columns: Vec<&str> = line.split('\t').collect();
        let value = columns.get(score).and_then(|text| text.parse::<f64>().ok());
        let value = value.filter(|value| value.is_finite());
        let value =
            value.with_context(|| format!("{file}, line {number}: expected a number as score"))?;
        let tag = columns.get(tag).copied().unwrap_or_default();
        scores.insert(tag.to_owned(), value);
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        assert_eq!(stem(Path::new("x/GCF_1.2_a.fna.gz")), "GCF_1.2_a");
        assert_eq!(stem(Path::new("GCF_1.2_a.gff3.gz")), "GCF_1.2_a");
        assert_eq!(stem(Path::new("plain")), "plain");
        assert_eq!(plain("E. coli (K-12)"), "E._coli__K-12_");
        assert_eq!(plain("-"), "-");
        assert_eq!(plain("..."), "genome");
    }
}
