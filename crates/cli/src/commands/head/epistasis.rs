//! `cistron head epistasis`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use cistron_heads::dataset::{Dataset, Task};
use cistron_heads::epistasis::{self, Epistasis, Genotype, Landscape, Names, Options};
use cistron_heads::folder::Head;
use cistron_heads::{HeadError, folder};
use cistron_model::checkpoint::write_atomically;
use clap::Args;
use tch::Device;

use super::input::wild_type;
use super::positions;
use crate::failure::Usage;
use crate::global::Global;
use crate::output;

/// Genotypes that are predicted at once.
const BLOCK: usize = 8192;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron head epistasis --head gb1 --table gb1.csv.gz --sequence-column sequence \\
    --target-column Fitness --out gb1-epistasis
  cistron head epistasis --head gfp --positions 64,65,66,167 --order 4 --out gfp-epistasis

Writes pairs.tsv, summary.json and plots: heatmap.svg, network.svg, orders.svg, and agreement.svg
with measurements. eps of two substitutions is f(both) - f(first) - f(second) + f(wild type); orders
are shares of the Walsh spectrum over all genotypes of some substitutions.")]
pub struct EpistasisCommand {
    /// Folder of the head
    #[arg(long, value_name = "DIR")]
    head: PathBuf,
    /// Measurements to compare with
    #[arg(long, value_name = "FILE", requires = "target_column")]
    table: Option<PathBuf>,
    /// Column of whole sequences
    #[arg(long, value_name = "NAME")]
    sequence_column: Option<String>,
    /// Column of mutants of the head's wild type
    #[arg(long, value_name = "NAME")]
    mutant_column: Option<String>,
    /// Column of measurements
    #[arg(long, value_name = "NAME", requires = "table")]
    target_column: Option<String>,
    /// Read only rows where a column has this value
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    filters: Vec<String>,
    /// Another wild type: letters, or a FASTA file
    #[arg(long, value_name = "LETTERS|FASTA")]
    wild_type: Option<String>,
    /// Which of the head's targets or classes [default: the first target, the last class]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Positions, in the wild type's numbers, such as 39,40,50-54 [default: those that vary together]
    #[arg(long, value_name = "N,...")]
    positions: Option<String>,
    /// Positions at most, those with the largest single effects
    #[arg(long, value_name = "N", default_value = "40")]
    max_positions: usize,
    /// Double mutants at most
    #[arg(long, value_name = "N", default_value = "20000")]
    max_pairs: usize,
    /// Sets of each order at most
    #[arg(long, value_name = "N", default_value = "2000")]
    max_sets: usize,
    /// Highest order, 2 to 6
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(2..=6))]
    order: u8,
    /// Seed of what is drawn
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Folder of the results
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
    /// Print summary.json in place of the table
    #[arg(long)]
    json: bool,
}

/// Measures epistasis.
pub fn run(global: &Global, command: &EpistasisCommand) -> anyhow::Result<()> {
    let device = global.device()?;
    let head = Head::load(&command.head, device)?;
    let description = &head.description;
    let given = command.wild_type.as_deref().map(wild_type).transpose()?;
    let wild = match &given {
        None => head.wild_type()?,
        Some(text) => match description.alphabet.encode_all(text.as_bytes()) {
            Ok(letters) => letters,
            Err((place, letter)) => bail!("--wild-type: '{letter}' as letter {place} is unknown"),
        },
    };
    if let Some(reason) = head.refuses(&wild) {
        bail!("--wild-type cannot be predicted by this head: {reason}");
    }
    let target = target(&head, command.target.as_deref())?;
    output::claim_folder(&command.out, command.force)?;
    let landscape = match &command.table {
        Some(path) => Some(measured(command, &head, &wild, path)?),
        None => None,
    };
    let first = description.first;
    let wanted = command.positions.as_deref();
    let wanted = wanted
        .map(|text| positions(text, first, wild.len()))
        .transpose()?;
    let options = Options {
        positions: wanted.unwrap_or_default(),
        most_positions: command.max_positions.max(2),
        most_pairs: command.max_pairs,
        most_sets: command.max_sets,
        order: usize::from(command.order),
        seed: command.seed,
    };
    let mut model = |genotypes: &[Genotype]| {
        predict(
            &head,
            &wild,
            target,
            genotypes,
            device,
            global.threads() > 1,
        )
    };
    let view = description.view.positions(wild.len());
    let letters = description.alphabet.size();
    let found = epistasis::analyse(
        &wild,
        letters,
        &view,
        landscape.as_ref(),
        &options,
        &mut model,
    )?;
    found.notes.iter().for_each(|note| tracing::info!("{note}"));
    let names = Names {
        alphabet: description.alphabet,
        wild_type: &wild,
        first,
    };
    let summary = epistasis::summary(&found, names);
    let pairs = epistasis::pairs_table(&found, names);
    write_atomically(&command.out.join("pairs.tsv"), pairs.as_bytes())?;
    folder::write_json(&command.out.join("summary.json"), &summary)?;
    let plots = command.out.join("plots");
    std::fs::create_dir_all(&plots)?;
    epistasis::draw(&found, names, &plots)?;
    if command.json {
        return output::print_json(&summary);
    }
    output::print(&table(&found))
}

/// The number of an output by its name.
pub fn target(head: &Head, name: Option<&str>) -> anyhow::Result<usize> {
    let names = super::predict::names(&head.description);
    let Some(name) = name else {
        return Ok(match head.description.task {
            Task::Classification => names.len() - 1,
            _ => 0,
        });
    };
    names.iter().position(|known| known == name).ok_or_else(|| {
        Usage(format!(
            "--target {name}: the head has {}",
            names.join(", ")
        ))
        .into()
    })
}

fn predict(
    head: &Head,
    wild_type: &[u8],
    target: usize,
    genotypes: &[Genotype],
    device: Device,
    parallel: bool,
) -> Result<Vec<f64>, HeadError> {
    let mut values = Vec::with_capacity(genotypes.len());
    for block in genotypes.chunks(BLOCK) {
        let sequences: Vec<Vec<u8>> = block
            .iter()
            .map(|genotype| {
                let mut sequence = wild_type.to_vec();
                genotype
                    .iter()
                    .for_each(|&(position, letter)| sequence[position] = letter);
                sequence
            })
            .collect();
        let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let predicted = head.predict(&rows, device, parallel)?;
        values.extend(predicted.iter().map(|p| p.values[target]));
    }
    Ok(values)
}

/// Measured genotypes that the head can predict.
fn measured(
    command: &EpistasisCommand,
    head: &Head,
    wild: &[u8],
    path: &Path,
) -> anyhow::Result<Landscape> {
    let description = &head.description;
    let table = super::input::TableArg {
        table: path.to_owned(),
        sequence_column: command.sequence_column.clone(),
        mutant_column: command.mutant_column.clone(),
        filters: command.filters.clone(),
        first: Some(description.first),
    };
    let mut columns = table.columns(Some(description.alphabet.text(wild)))?;
    columns.targets.extend(command.target_column.clone());
    columns.molecule = Some(description.alphabet.molecule);
    let data = Dataset::read(path, &columns, Task::Regression)?;
    data.notes.iter().for_each(|note| tracing::info!("{note}"));
    let mut outside = 0;
    let mut measured = Vec::new();
    for row in 0..data.len() {
        let genotype = match head.refuses(&data.sequences[row]) {
            None => data.substitutions(row),
            Some(_) => None,
        };
        match genotype {
            Some(genotype) => measured.push((genotype, data.targets[row][0])),
            None => outside += 1,
        }
    }
    if outside > 0 {
        tracing::info!("{outside} rows that the head cannot predict are left out");
    }
    if !measured.iter().any(|(genotype, _)| genotype.is_empty()) {
        tracing::info!("the wild type is not in the table: no pair can be measured against it");
    }
    Ok(Landscape::new(measured))
}

fn table(found: &Epistasis) -> String {
    let number = |value: Option<f64>| value.map_or("NA".into(), |value| format!("{value:.4}"));
    let mut text = "order\tsets\tspearman\tpearson\trms_data\trms_model\n".to_owned();
    for a in &found.agreement {
        text += &format!(
            "{}\t{}\t{}\t{}\t{:.4}\t{:.4}\n",
            a.order,
            a.sets,
            number(a.spearman),
            number(a.pearson),
            a.size_data,
            a.size_model
        );
    }
    for orders in &found.orders {
        let shares = |shares: &[f64]| -> String {
            let shares: Vec<String> = shares.iter().map(|share| format!("{share:.4}")).collect();
            shares.join(" ")
        };
        text += &format!(
            "# variance by order, {} {} cubes of {}: model {}{}\n",
            orders.cubes,
            if orders.measured { "measured" } else { "drawn" },
            orders.substitutions,
            shares(&orders.model),
            orders
                .data
                .as_ref()
                .map_or(String::new(), |d| format!(", data {}", shares(d)))
        );
    }
    text += &format!(
        "# variance beyond an additive model: model {}, data {}\n",
        number(found.beyond_additive_model),
        number(found.beyond_additive_data)
    );
    text
}
