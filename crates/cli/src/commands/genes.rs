//! `cistron score genes`.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cistron_genome::code::GeneticCode;
use cistron_genome::compression::{input_name, open_input};
use cistron_genome::gff::Feature;
use cistron_score::Engine;
use cistron_score::genes::{self, GeneWindows, Knockout};
use cistron_score::metrics::{Auroc, auroc, average_precision, logistic};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::commands::saturate::Table;
use crate::commands::score;
use crate::failure::Usage;
use crate::global::Global;
use crate::models::InferenceArg;
use crate::output;
use crate::progress::Progress;
use crate::stop;

/// Genes scored together.
const BATCH: usize = 64;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnockoutArg {
    /// 15 bases in place of 15
    Replace,
    /// 15 bases between two
    Insert,
    /// 15 bases between two, every 12 bases
    InsertEvery,
}

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score genes --fasta ref.fna.gz --gff ref.gff3.gz -o genes.tsv.gz
  cistron score genes --fasta ref.fna.gz --gff ref.gff3.gz --labels ess.tsv.gz \\
    --label-column call --positive essential --negative non-essential --json

The score of a gene is the log-likelihood of the window around it less that of the window with stop
codons 12 bases into the gene, in nats: high where the model minds. With labels the AUROC and the
average precision of the score are printed beside those of gene length, of GC and of both in a
logistic regression, and what the score adds to both. Regressions are fitted to the labels they are
measured on.")]
pub struct Genes {
    /// Genome
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: PathBuf,
    /// Its genes: CDS without pseudo=true
    #[arg(long, value_name = "GFF3")]
    gff: PathBuf,
    #[command(flatten)]
    model: InferenceArg,
    /// Table of genes; - for standard output [default: none with --labels, else -]
    #[arg(long, short, value_name = "OUT.tsv[.gz]")]
    output: Option<PathBuf>,
    /// Labels: a table with tabs whose first column is a locus tag
    #[arg(long, value_name = "FILE.tsv", requires_all = ["label_column", "positive", "negative"])]
    labels: Option<PathBuf>,
    /// Column of the labels
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Labels of essential genes
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    positive: Vec<String>,
    /// Labels of the others; genes with any other word are left out
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    negative: Vec<String>,
    /// Bases a window; longer genes are left out
    #[arg(long, value_name = "N", default_value = "8192", value_parser = clap::value_parser!(u32).range(64..))]
    window: u32,
    /// How the stop codons are put in
    #[arg(long, value_enum, default_value = "replace")]
    knockout: KnockoutArg,
    /// Genetic code of genes without transl_table: 4, 11 or 25
    #[arg(long, value_name = "TABLE", default_value = "11")]
    genetic_code: u32,
    /// Score about this many genes, evenly spaced
    #[arg(long, value_name = "N")]
    max_genes: Option<usize>,
    /// Circular contigs, whose windows wrap: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the figures as JSON
    #[arg(long, requires = "labels")]
    json: bool,
}

struct Gene {
    name: String,
    row: String,
    length: f64,
    gc: f64,
    windows: GeneWindows,
}

pub fn run(global: &Global, command: &Genes) -> anyhow::Result<()> {
    let device = global.device()?;
    let to_stdout = |path: &Path| path.as_os_str() == "-";
    let output = match (&command.output, &command.labels) {
        (Some(path), Some(_)) if to_stdout(path) => {
            return Err(Usage("-o - and --labels both print; name a file".into()).into());
        }
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from("-")),
        (path, _) => path.clone(),
    };
    if let Some(path) = output.as_ref().filter(|path| !to_stdout(path)) {
        output::claim_file(path, command.force)?;
    }
    let labels = command
        .labels
        .as_deref()
        .map(|path| read_labels(path, command))
        .transpose()?;
    let mut genes = read_genes(command)?;
    if let Some(labels) = &labels {
        genes.retain(|gene| labels.contains_key(&gene.name));
        if genes.is_empty() {
            bail!(
                "{}: no locus tag is that of a gene of {} with one of the labels; check --gff, \
                 --positive and --negative",
                command
                    .labels
                    .as_deref()
                    .map(input_name)
                    .unwrap_or_default(),
                input_name(&command.gff)
            );
        }
    }
    if let Some(wanted) = command.max_genes.filter(|&wanted| wanted < genes.len()) {
        let total = genes.len();
        let mut number = 0;
        genes.retain(|_| {
            number += 1;
            (number - 1) * wanted / total != number * wanted / total
        });
    }
    let loaded = command.model.load(device)?;
    let engine = Engine::new(&loaded.model, global.threads())?.with_stop(stop::flag());
    let mut progress = Progress::new(global, "score genes", "genes", Some(genes.len() as u64));
    let mut scores = Vec::with_capacity(genes.len());
    for batch in genes.chunks(BATCH) {
        let windows = batch.iter().map(|gene| gene.windows.clone()).collect();
        scores.extend(genes::score(&engine, windows)?);
        progress.add(batch.len() as u64);
    }
    let rate = progress.finish();
    tracing::info!("{} genes, {rate:.1} a second", genes.len());
    if let Some(path) = &output {
        let mut table = Table::create(path)?;
        table.write(b"locus_tag\tchrom\tstart\tend\tstrand\tlength\tgc\tscore\tessential\n")?;
        for (gene, score) in genes.iter().zip(&scores) {
            let label = labels.as_ref().map(|labels| labels[&gene.name]);
            let label = label.map_or("NA", |label| if label { "1" } else { "0" });
            table
                .write(format!("{}\t{:.4}\t{score:.4}\t{label}\n", gene.row, gene.gc).as_bytes())?;
        }
        table.finish()?;
    }
    let Some(labels) = labels else { return Ok(()) };
    let positive: Vec<bool> = genes.iter().map(|gene| labels[&gene.name]).collect();
    report(command, &loaded.provenance, &genes, &scores, &positive)
}

fn report(
    command: &Genes,
    model: &str,
    genes: &[Gene],
    scores: &[f64],
    positive: &[bool],
) -> anyhow::Result<()> {
    let length: Vec<f64> = genes.iter().map(|gene| gene.length.ln()).collect();
    let gc: Vec<f64> = genes.iter().map(|gene| gene.gc).collect();
    let both = logistic(&[length.clone(), gc.clone()], positive);
    let all = logistic(&[length.clone(), gc.clone(), scores.to_vec()], positive);
    let measure = |values: &[f64]| -> anyhow::Result<(Auroc, f64)> {
        let area = auroc(values, positive).zip(average_precision(values, positive));
        area.context("fewer than two essential or two other genes are left; nothing to measure")
    };
    let (found, precision) = measure(scores)?;
    let rows = [
        ("length", measure(&length)?),
        ("gc", measure(&gc)?),
        ("length_gc", measure(&both)?),
        ("length_gc_score", measure(&all)?),
    ];
    let positives = positive.iter().filter(|p| **p).count();
    let increment = rows[3].1.0.auroc - rows[2].1.0.auroc;
    if command.json {
        let baselines: serde_json::Map<String, serde_json::Value> = rows
            .iter()
            .map(|(name, (area, precision))| {
                let value = json!({"auroc": area.auroc, "ci": area.ci, "auprc": precision});
                ((*name).to_owned(), value)
            })
            .collect();
        return output::print_json(&json!({
            "model": model,
            "tool_version": env!("CARGO_PKG_VERSION"),
            "window": command.window,
            "auroc": found.auroc,
            "ci": found.ci,
            "auprc": precision,
            "n": positive.len(),
            "positives": positives,
            "baselines": baselines,
            "increment": increment,
        }));
    }
    let line = |name: &str, (area, precision): &(Auroc, f64)| {
        let [low, high] = area.ci;
        format!(
            "{name}\t{:.4}\t{low:.4}\t{high:.4}\t{precision:.4}\n",
            area.auroc
        )
    };
    let mut text = "of\tauroc\tlow\thigh\tauprc\n".to_owned();
    text += &line("score", &(found, precision));
    rows.iter()
        .for_each(|(name, value)| text += &line(name, value));
    text += &format!("# {} genes, {positives} essential\n", positive.len());
    output::print(&text)
}

fn read_genes(command: &Genes) -> anyhow::Result<Vec<Gene>> {
    let gff = Some(command.gff.as_path());
    let (genome, annotation) = score::read_genome(&command.fasta, gff, &command.circular)?;
    let annotation = annotation.context("--gff was given")?;
    let code = |feature: &Feature| {
        let table = feature.attributes.get("transl_table");
        let table = table.map_or(Some(command.genetic_code), |table| table.parse().ok());
        table.and_then(GeneticCode::from_table).with_context(|| {
            format!(
                "{}, line {}: the genetic code is none of 4, 11 and 25",
                input_name(&command.gff),
                feature.line
            )
        })
    };
    let knockout = match command.knockout {
        KnockoutArg::Replace => Knockout::Replace,
        KnockoutArg::Insert => Knockout::Insert,
        KnockoutArg::InsertEvery => Knockout::InsertEvery,
    };
    let mut parts: HashMap<&str, usize> = HashMap::new();
    for id in annotation.of_kind("CDS").filter_map(Feature::id) {
        *parts.entry(id).or_default() += 1;
    }
    let (mut genes, mut left_out) = (Vec::new(), 0);
    for feature in annotation.of_kind("CDS") {
        let whole = feature.id().is_none_or(|id| parts[id] == 1);
        let pseudo = feature.attributes.get("pseudo") == Some("true");
        let contig = genome
            .get(&feature.contig)
            .context("the annotation was checked")?;
        let code = code(feature)?;
        let cut = genes::windows(contig, feature, code, command.window as usize, knockout);
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
        let name = feature
            .locus_tag()
            .or(feature.id())
            .unwrap_or(".")
            .to_owned();
        genes.push(Gene {
            row: format!(
                "{name}\t{}\t{}\t{}\t{strand}\t{}",
                contig.name,
                feature.interval.start() + 1,
                feature.interval.end(),
                bases.len()
            ),
            name,
            length: bases.len() as f64,
            gc: gc as f64 / bases.len() as f64,
            windows,
        });
    }
    if left_out > 0 {
        tracing::info!(
            "left out: {left_out} CDS in parts, of pseudogenes, too short for the stop codons, or \
             longer than --window"
        );
    }
    Ok(genes)
}

/// Whether each labelled gene is essential, by locus tag.
fn read_labels(path: &Path, command: &Genes) -> anyhow::Result<HashMap<String, bool>> {
    let file = input_name(path);
    let mut lines = open_input(path)?.lines();
    let header = lines.next().transpose().with_context(|| file.clone())?;
    let header = header.with_context(|| format!("{file}: empty; expected a row of names first"))?;
    let wanted = command.label_column.as_deref().unwrap_or_default();
    let column = header.split('\t').position(|name| name == wanted);
    let column = column.with_context(|| {
        format!(
            "{file}: no column '{wanted}'; there are: {}",
            header.replace('\t', ", ")
        )
    })?;
    let mut labels = HashMap::new();
    for line in lines {
        let line = line.with_context(|| file.clone())?;
        let mut fields = line.split('\t');
        let Some(name) = fields.clone().next() else {
            continue;
        };
        let word = fields.nth(column).unwrap_or_default().to_owned();
        match (
            command.positive.contains(&word),
            command.negative.contains(&word),
        ) {
            (true, _) => labels.insert(name.to_owned(), true),
            (_, true) => labels.insert(name.to_owned(), false),
            _ => None,
        };
    }
    Ok(labels)
}
