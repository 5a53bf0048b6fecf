//! Genomes whose genes are scored, and their labels.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cistron_genome::code::GeneticCode;
use cistron_genome::compression::{input_name, open_input};
use cistron_genome::coord::{Interval, Strand};
use cistron_genome::gff::Feature;
use cistron_score::genes::{self, GeneWindows};

use super::{Genes, some_left};
use crate::commands::score;

/// One genome.
pub struct Job {
    /// What outputs call it.
    pub name: String,
    fasta: PathBuf,
    /// Its annotation.
    pub gff: PathBuf,
    /// Which of its genes are essential.
    pub labels: Option<Labels>,
}

/// A table of labels.
pub struct Labels {
    /// The file.
    pub path: PathBuf,
    column: String,
    positive: Vec<String>,
    negative: Vec<String>,
}

/// A gene with its windows.
pub struct Gene {
    /// Its locus tag.
    pub name: String,
    /// Its contig.
    pub contig: String,
    /// Where it lies.
    pub interval: Interval,
    /// Its strand.
    pub strand: Strand,
    /// Bases.
    pub length: usize,
    /// Share of G and C.
    pub gc: f64,
    /// What is read.
    pub windows: GeneWindows,
}

/// Columns of a sheet, in any order.
const SHEET: [&str; 7] = [
    "name",
    "fasta",
    "gff",
    "labels",
    "label_column",
    "positive",
    "negative",
];

impl Job {
    /// The genomes that the command names.
    pub fn all(command: &Genes) -> anyhow::Result<Vec<Self>> {
        if let Some(sheet) = &command.sheet {
            return read_sheet(sheet);
        }
        let (fasta, gff) = command
            .fasta
            .clone()
            .zip(command.gff.clone())
            .context("--fasta and --gff, or --sheet")?;
        let labels = command.labels.as_ref().map(|path| Labels {
            path: path.clone(),
            column: command.label_column.clone().unwrap_or_default(),
            positive: command.positive.clone(),
            negative: command.negative.clone(),
        });
        let name = input_name(&fasta);
        let name = Path::new(&name).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        Ok(vec![Self {
            name: name.split(".f").next().unwrap_or(&name).to_owned(),
            fasta,
            gff,
            labels,
        }])
    }

    /// Its genes, those with a label where there are labels, and whether each is essential.
    pub fn read(&self, command: &Genes) -> anyhow::Result<(Vec<Gene>, Option<Vec<bool>>)> {
        let mut genes = self.genes(command)?;
        let labels = self.labels.as_ref().map(Labels::read).transpose()?;
        if let Some(labels) = &labels {
            genes.retain(|gene| labels.contains_key(&gene.name));
            some_left(&genes, self)?;
        }
        if let Some(wanted) = command.max_genes.filter(|&wanted| wanted < genes.len()) {
            let total = genes.len();
            let mut number = 0;
            genes.retain(|_| {
                number += 1;
                (number - 1) * wanted / total != number * wanted / total
            });
        }
        let positive = labels.map(|labels| genes.iter().map(|gene| labels[&gene.name]).collect());
        Ok((genes, positive))
    }

    fn genes(&self, command: &Genes) -> anyhow::Result<Vec<Gene>> {
        let gff = Some(self.gff.as_path());
        let (genome, annotation) = score::read_genome(&self.fasta, gff, &command.circular)?;
        let annotation = annotation.context("there is an annotation")?;
        let code = |feature: &Feature| {
            let table = feature.attributes.get("transl_table");
            let table = table.map_or(Some(command.genetic_code), |table| table.parse().ok());
            table.and_then(GeneticCode::from_table).with_context(|| {
                format!(
                    "{}, line {}: the genetic code is none of 4, 11 and 25",
                    input_name(&self.gff),
                    feature.line
                )
            })
        };
        let mut parts: HashMap<&str, usize> = HashMap::new();
        for id in annotation.of_kind("CDS").filter_map(Feature::id) {
            *parts.entry(id).or_default() += 1;
        }
        let (mut genes, mut left_out) = (Vec::new(), 0);
        for feature in annotation.of_kind("CDS") {
            let whole = feature.id().is_none_or(|id| parts[id] == 1);
            let pseudo = feature.is_pseudo();
            let contig = genome
                .get(&feature.contig)
                .context("the annotation was checked")?;
            let code = code(feature)?;
            let window = command.window as usize;
            let cut = genes::windows(contig, feature, code, window, command.knockout.into());
            let (Some(windows), Some(bases), Some(strand), true) = (
                cut,
                feature.sequence(contig),
                feature.strand,
                whole && !pseudo,
            ) else {
                left_out += 1;
                continue;
            };
            let gc = bases.iter().filter(|base| b"GC".contains(base)).count();
            genes.push(Gene {
                name: feature
                    .locus_tag()
                    .or(feature.id())
                    .unwrap_or(".")
                    .to_owned(),
                contig: contig.name.as_str().to_owned(),
                interval: feature.interval,
                strand,
                length: bases.len(),
                gc: gc as f64 / bases.len() as f64,
                windows,
            });
        }
        if left_out > 0 {
            tracing::info!(
                "left out: {left_out} CDS in parts, of pseudogenes, too short for the stop \
                 codons, or longer than --window"
            );
        }
        Ok(genes)
    }
}

impl Labels {
    /// Whether each labelled gene is essential, by locus tag.
    fn read(&self) -> anyhow::Result<HashMap<String, bool>> {
        let file = input_name(&self.path);
        let (names, rows) = read_tabs(&self.path)?;
        let column = names.iter().position(|name| *name == self.column);
        let column = column.with_context(|| {
            format!(
                "{file}: no column '{}'; there are: {}",
                self.column,
                names.join(", ")
            )
        })?;
        let mut labels = HashMap::new();
        for (_, fields) in rows {
            let (Some(name), Some(word)) = (fields.first(), fields.get(column)) else {
                continue;
            };
            match (self.positive.contains(word), self.negative.contains(word)) {
                (true, _) => labels.insert(name.clone(), true),
                (_, true) => labels.insert(name.clone(), false),
                _ => None,
            };
        }
        Ok(labels)
    }
}

fn read_sheet(path: &Path) -> anyhow::Result<Vec<Job>> {
    let file = input_name(path);
    let (names, rows) = read_tabs(path)?;
    let columns = SHEET.map(|wanted| names.iter().position(|name| name == wanted));
    for (wanted, column) in SHEET.iter().zip(columns) {
        if column.is_none() {
            bail!(
                "{file}: no column '{wanted}'; there are: {}; expected {}",
                names.join(", "),
                SHEET.join(", ")
            );
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut jobs = Vec::new();
    for (line, fields) in rows {
        let field = |at: usize| {
            let value = columns[at].and_then(|column| fields.get(column));
            value
                .filter(|value| !value.is_empty())
                .cloned()
                .with_context(|| format!("{file}, line {line}: '{}' is empty", SHEET[at]))
        };
        let words = |at: usize| field(at).map(|w| w.split(',').map(str::to_owned).collect());
        jobs.push(Job {
            name: field(0)?,
            fasta: folder.join(field(1)?),
            gff: folder.join(field(2)?),
            labels: Some(Labels {
                path: folder.join(field(3)?),
                column: field(4)?,
                positive: words(5)?,
                negative: words(6)?,
            }),
        });
    }
    if jobs.is_empty() {
        bail!("{file}: names no genome");
    }
    Ok(jobs)
}

/// A row of names, then rows with the numbers of their lines.
type Tabs = (Vec<String>, Vec<(usize, Vec<String>)>);

fn read_tabs(path: &Path) -> anyhow::Result<Tabs> {
    let file = input_name(path);
    let mut names = None;
    let mut rows = Vec::new();
    for (number, line) in open_input(path)
        .with_context(|| file.clone())?
        .split(b'\n')
        .enumerate()
    {
        let line = line.with_context(|| file.clone())?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        match &names {
            None => names = Some(fields),
            Some(_) if line.is_empty() => (),
            Some(_) => rows.push((number + 1, fields)),
        }
    }
    let names = names.with_context(|| format!("{file}: empty; expected a row of names first"))?;
    Ok((names, rows))
}
