//! `cistron head predict`.

use std::path::PathBuf;

use cistron_heads::dataset::{Dataset, Task};
use cistron_heads::folder::{Description, Head};
use cistron_heads::metrics::Metrics;
use cistron_heads::network::Inputs;
use cistron_model::lyra::Pooling;
use cistron_tables::Table;
use clap::Args;

use super::backbone::embed;
use super::input::{TableArg, wild_type};
use crate::commands::saturate::Table as Output;
use crate::global::Global;
use crate::output;

/// Rows that are predicted at once.
const BLOCK: usize = 8192;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron head predict --head gfp --table new.tsv --mutant-column variant -o predicted.tsv
  cistron head predict --head lac --table lac.tsv --sequence-column x --target-column y

Columns: row, name, a prediction for each target or the probability of each class or label, its
standard deviation over the head's networks (NA of one), and a status: ok, letters, other-length, or
outside-view for a change where all training rows were the same. With --target-column measurements are
compared on standard error.")]
pub struct Predict {
    /// Folder of the head
    #[arg(long, value_name = "DIR")]
    head: PathBuf,
    #[command(flatten)]
    table: TableArg,
    /// Wild type of the mutants: letters, or a FASTA file [default: that of the head]
    #[arg(long, value_name = "LETTERS|FASTA")]
    wild_type: Option<String>,
    /// Measurements to compare with, in the order of the head's targets
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    target_column: Vec<String>,
    /// Predictions; - for standard output
    #[arg(long, short, value_name = "OUT.tsv[.gz]", default_value = "-")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

/// Predicts.
pub fn run(global: &Global, command: &Predict) -> anyhow::Result<()> {
    let device = global.device()?;
    let head = Head::load(&command.head, device)?;
    let to_stdout = command.output.as_os_str() == "-";
    if !to_stdout {
        output::claim_file(&command.output, command.force)?;
    }
    let own = head.description.wild_type.clone();
    let given = command.wild_type.as_deref().map(wild_type).transpose()?;
    let mut columns = command.table.columns(given.or(own))?;
    if columns.first.is_none() && columns.sequence.is_none() {
        columns.first = Some(head.description.first);
    }
    let path = &command.table.table;
    let data = Dataset::read_sequences(path, &columns, head.description.alphabet)?;
    data.notes.iter().for_each(|note| tracing::info!("{note}"));
    let refused: Vec<Option<&str>> = data.sequences.iter().map(|s| head.refuses(s)).collect();
    let wanted: Vec<usize> = (0..data.len()).filter(|&i| refused[i].is_none()).collect();
    let mut predicted = Vec::with_capacity(wanted.len());
    for block in wanted.chunks(BLOCK) {
        let sequences: Vec<&[u8]> = block
            .iter()
            .map(|&i| data.sequences[i].as_slice())
            .collect();
        let parallel = global.threads() > 1;
        let Some(backbone) = &head.description.backbone else {
            predicted.extend(head.predict(&sequences, device, parallel)?);
            continue;
        };
        let rows: Vec<Vec<u8>> = sequences.iter().map(|row| row.to_vec()).collect();
        let wild_type = head.wild_type().ok();
        let alphabet = head.description.alphabet;
        let states = embed(
            device,
            backbone.clone(),
            alphabet,
            &rows,
            wild_type.as_ref(),
        )?;
        let mut inputs = Inputs::letters(&sequences, alphabet.size(), device);
        inputs.embeddings = Some((
            states.states.to_device(device),
            states.mask.to_device(device),
        ));
        let compared = head.description.lyra.pooling == Pooling::Position;
        let wild_type = states
            .wild_type
            .filter(|_| compared)
            .map(|states| states.to_device(device));
        predicted.extend(head.predict_inputs(&inputs, wild_type.as_ref(), parallel));
    }
    let outputs = names(&head.description);
    let mut table = Output::create(&command.output)?;
    table.write(header(&outputs).as_bytes())?;
    let mut next = predicted.iter();
    for (i, status) in refused.iter().enumerate() {
        let mut line = format!("{}\t{}", data.rows[i], data.names[i]);
        let values = match status {
            None => next.next(),
            Some(_) => None,
        };
        for k in 0..outputs.len() {
            line += &values.map_or("\tNA".into(), |p| format!("\t{:.6}", p.values[k]));
        }
        for k in 0..outputs.len() {
            let deviation = values.filter(|_| head.networks() > 1);
            line += &deviation.map_or("\tNA".into(), |p| format!("\t{:.6}", p.deviations[k]));
        }
        line += &format!("\t{}\n", status.unwrap_or("ok"));
        table.write(line.as_bytes())?;
    }
    table.finish()?;
    let left_out = refused.iter().flatten().count();
    tracing::info!(
        "{} rows predicted by {} networks, {left_out} not",
        wanted.len(),
        head.networks()
    );
    compare(command, &head, &data, &wanted, &predicted)
}

/// Names of the outputs.
pub fn names(description: &Description) -> Vec<String> {
    match description.task {
        Task::Classification => description.classes.clone(),
        _ => description.targets.clone(),
    }
}

fn header(outputs: &[String]) -> String {
    let named = |what: &str, name: &String| match outputs.len() {
        1 => what.to_owned(),
        _ => format!("{what}_{name}"),
    };
    let mut columns = vec!["row".to_owned(), "name".into()];
    columns.extend(outputs.iter().map(|name| named("predicted", name)));
    columns.extend(outputs.iter().map(|name| named("deviation", name)));
    columns.push("status".into());
    columns.join("\t") + "\n"
}

/// Measures predictions where there are measurements.
fn compare(
    command: &Predict,
    head: &Head,
    data: &Dataset,
    wanted: &[usize],
    predicted: &[cistron_heads::predict::Predicted],
) -> anyhow::Result<()> {
    if command.target_column.is_empty() {
        return Ok(());
    }
    let table = Table::read(&command.table.table)?;
    let description = &head.description;
    let columns: Vec<Vec<Option<f64>>> = match description.task {
        Task::Classification => {
            let cells = table.text(&command.target_column[0])?;
            let class = |cell: &Option<String>| {
                let place = description
                    .classes
                    .iter()
                    .position(|c| Some(c) == cell.as_ref());
                place.map(|place| place as f64)
            };
            vec![cells.iter().map(class).collect()]
        }
        _ => command
            .target_column
            .iter()
            .map(|name| table.numbers(name))
            .collect::<Result<_, _>>()?,
    };
    let (mut values, mut measured) = (Vec::new(), Vec::new());
    for (&i, predicted) in wanted.iter().zip(predicted) {
        let row: Option<Vec<f64>> = columns
            .iter()
            .map(|column| column[data.rows[i] - 1])
            .collect();
        if let Some(row) = row {
            values.push(predicted.values.clone());
            measured.push(row);
        }
    }
    let metrics = Metrics::of(description.task, &values, &measured);
    tracing::info!("measured rows: {}", serde_json::to_string(&metrics)?);
    Ok(())
}
