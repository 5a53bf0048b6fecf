//! `cistron head train`.

use std::path::PathBuf;
use std::sync::Mutex;

use cistron_heads::baseline::Baseline;
use cistron_heads::dataset::{Dataset, Task};
use cistron_heads::folds::{Folds, Plan};
use cistron_heads::metrics::{Choice, Metrics};
use cistron_heads::run::{self, Embedded, Event, Options, Outcome, Pool};
use cistron_heads::scale::Transform;
use cistron_heads::trainer::{Rows, Training};
use cistron_heads::view::Margin;
use cistron_heads::{folder, plots, tables};
use cistron_model::lyra::LyraConfig;
use clap::{Args, ValueEnum};
use tch::Device;

use super::backbone::BackboneArg;
use super::input::{MoleculeArg, TableArg, wild_type};
use crate::commands::command_line;
use crate::failure::{Signalled, Usage};
use crate::global::Global;
use crate::output;
use crate::progress::Progress;
use crate::stop;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TaskArg {
    /// Numbers
    Regression,
    /// One class of several
    Classification,
    /// Labels of 0 and 1, a column each
    Multilabel,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FoldsArg {
    /// At random
    Random,
    /// By the first changed position, modulo the number of folds
    Modulo,
    /// By stretches of positions
    Contiguous,
    /// Few substitutions to train on, more for the test
    ByOrder,
    /// By --split-column
    Column,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VariantArg {
    /// Sites where at most 12 positions vary, position where all sequences have one length of at most
    /// 780 letters, else lyra
    Auto,
    /// The published network: the mean over positions
    Lyra,
    /// This project's own: amino-acid properties, a code for each position, and a difference to the
    /// wild type that is weighted by position
    Position,
    /// This project's own, where at most 12 positions vary: members of one network that read all of
    /// these at once, by gated layers, and learn ranks beside values
    Sites,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChoiceArg {
    /// The mean of Spearman and Pearson
    Correlation,
    /// The share of the variance that is explained
    R2,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TransformArg {
    /// As it is
    None,
    /// By its rank among training rows
    Rank,
    /// By its logarithm
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BaselineArg {
    /// Every baseline
    All,
    /// No baseline
    None,
    /// The mean of the training rows
    Mean,
    /// Ridge regression on letters
    AdditiveRidge,
    /// Ridge regression on letters and pairs
    PairwiseRidge,
    /// An additive trait behind one monotone curve
    GlobalEpistasis,
    /// A small convolutional network of equal size
    Cnn,
}

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron head train --table tem1.csv.gz --sequence-column mutated_sequence --target-column DMS_score \\
    --out tem1 --test-fold all
  cistron head train --table gfp.tsv.gz --mutant-column variant --wild-type gfp.fa \\
    --target-column score --out gfp --ensemble 5
  cistron head train --table lac.tsv --sequence-column x --target-column y --split-column set --out lac

Baselines are trained on the same rows and printed beside the head, measured on the test rows. The
folder holds head.json and members/ for the other head commands, metrics.json, predictions.tsv,
curves.tsv and plots/.")]
pub struct Train {
    #[command(flatten)]
    table: TableArg,
    /// Wild type: letters, or a FASTA file [default: the commonest letter of each position]
    #[arg(long, value_name = "LETTERS|FASTA")]
    wild_type: Option<String>,
    /// Columns to learn
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true)]
    target_column: Vec<String>,
    /// What is learned
    #[arg(long, value_enum, default_value = "regression")]
    task: TaskArg,
    /// Folder of the head
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Kind of sequence [default: what the letters say]
    #[arg(long, value_enum)]
    alphabet: Option<MoleculeArg>,

    #[command(flatten)]
    backbone: BackboneArg,

    /// Column with train, validation and test, or with names of folds
    #[arg(long, value_name = "NAME", help_heading = "Splits")]
    split_column: Option<String>,
    /// Column that marks validation rows with true or 1
    #[arg(
        long,
        value_name = "NAME",
        requires = "split_column",
        help_heading = "Splits"
    )]
    validation_column: Option<String>,
    /// How rows are divided [default: column with --split-column, else random]
    #[arg(long, value_enum, help_heading = "Splits")]
    folds: Option<FoldsArg>,
    /// Number of folds
    #[arg(long, value_name = "K", default_value = "5", help_heading = "Splits")]
    fold_count: usize,
    /// Folds that are the test once each: numbers from 0, all, or none to train on every row
    #[arg(
        long,
        value_name = "N,...|all|none",
        default_value = "0",
        value_delimiter = ',',
        help_heading = "Splits"
    )]
    test_fold: Vec<String>,
    /// Most substitutions of a training row, with --folds by-order
    #[arg(long, value_name = "N", default_value = "2", help_heading = "Splits")]
    train_order: usize,
    /// Share of the training rows that stop the training, where none are given
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0.1",
        help_heading = "Splits"
    )]
    validation: f64,

    /// Which network
    #[arg(long, value_enum, default_value = "auto", help_heading = "Network")]
    variant: VariantArg,
    /// Width
    #[arg(long, value_name = "D", default_value = "64", help_heading = "Network")]
    d_model: i64,
    /// States a channel
    #[arg(long, value_name = "N", default_value = "64", help_heading = "Network")]
    d_state: i64,
    /// Residual state-space blocks
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Network")]
    depth: i64,
    /// Taps of the gated convolutions
    #[arg(long, value_name = "N", default_value = "3", help_heading = "Network")]
    kernel_size: i64,
    /// Widths of the gated convolutions over that of the network [default: 0.25,2; 1,2 with variant
    /// position where at most 12 positions vary]
    #[arg(
        long,
        value_name = "E,...",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    expansions: Vec<f64>,
    /// Chance of a channel to be left out in training [default: 0.2; 0.05 with variant sites and more
    /// than 20,000 training rows]
    #[arg(long, value_name = "P", help_heading = "Network")]
    dropout: Option<f64>,
    /// State spaces that look both ways
    #[arg(long, help_heading = "Network")]
    bidirectional: bool,
    /// Convolutions that look to the left alone
    #[arg(long, help_heading = "Network")]
    causal: bool,
    /// Members of one network, with variant sites
    #[arg(long, value_name = "K", default_value = "4", value_parser = clap::value_parser!(i64).range(1..=256), help_heading = "Network")]
    members: i64,
    /// Without gates, norms, nonlinearities and curve: an additive model
    #[arg(long, help_heading = "Network")]
    linear: bool,

    /// Networks a fold; their spread is the uncertainty
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Training")]
    ensemble: usize,
    /// Seed of folds, first values, order and dropout
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Training")]
    seed: u64,
    /// Passes over the training rows [default: 8 or more, by their number]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<usize>,
    /// Rows a step [default: 32 to 256, by their number]
    #[arg(long, value_name = "N", help_heading = "Training")]
    batch: Option<usize>,
    /// Peak learning rate
    #[arg(
        long,
        value_name = "RATE",
        default_value = "0.002",
        help_heading = "Training"
    )]
    lr: f64,
    /// Rate of step sizes and poles, over --lr
    #[arg(
        long,
        value_name = "PART",
        default_value = "0.5",
        help_heading = "Training"
    )]
    ssm_lr: f64,
    /// Weight decay
    #[arg(
        long,
        value_name = "DECAY",
        default_value = "0.01",
        help_heading = "Training"
    )]
    weight_decay: f64,
    /// Epochs without a better validation score after which training ends [default: a quarter of
    /// all, at least 10]
    #[arg(long, value_name = "N", help_heading = "Training")]
    patience: Option<usize>,
    /// Count errors beyond this many deviations linearly; 0 takes squares throughout
    #[arg(
        long,
        value_name = "DEVIATIONS",
        default_value = "0",
        help_heading = "Training"
    )]
    huber: f64,
    /// Steps over which weights are averaged, an eighth of all at most; 0 takes them as they are
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "200",
        help_heading = "Training"
    )]
    average: f64,
    /// What chooses the epoch, and the penalty of ridges, on validation rows of numbers
    #[arg(
        long,
        value_enum,
        default_value = "correlation",
        help_heading = "Training"
    )]
    choose_by: ChoiceArg,
    /// What happens to targets before they are standardised
    #[arg(long, value_enum, default_value = "none", help_heading = "Training")]
    transform: TransformArg,
    /// What is trained beside the head
    #[arg(
        long,
        value_enum,
        default_value = "all",
        value_delimiter = ',',
        help_heading = "Training"
    )]
    baselines: Vec<BaselineArg>,
    /// Constant letters that are read beside those that vary, or all; auto is 8, but none at all
    /// where at most 12 positions vary
    #[arg(
        long,
        value_name = "auto|N|all",
        default_value = "auto",
        help_heading = "Training"
    )]
    margin: String,

    /// Replace an existing head
    #[arg(long)]
    force: bool,
    /// Print metrics.json in place of the table
    #[arg(long)]
    json: bool,
}

/// Trains, writes the folder and prints the table.
pub fn run(global: &Global, command: &Train) -> anyhow::Result<()> {
    let device = global.device()?;
    let options = options(global, command, device)?;
    let mut columns = command
        .table
        .columns(command.wild_type.as_deref().map(wild_type).transpose()?)?;
    columns.targets.clone_from(&command.target_column);
    columns.split.clone_from(&command.split_column);
    columns.validation.clone_from(&command.validation_column);
    columns.molecule = command.alphabet.map(MoleculeArg::molecule);
    let data = Dataset::read(&command.table.table, &columns, options.task)?;
    output::claim_folder(&command.out, command.force)?;
    let own = data.wild_type.as_ref();
    let states = command
        .backbone
        .embed(device, data.alphabet, &data.sequences, own)?;
    let outcome = train(global, &data, &options, states.as_ref())?;
    write(&command.out, &data, &outcome)?;
    if command.json {
        return output::print_json(&serde_json::to_value(&outcome.report)?);
    }
    output::print(&table(&outcome))
}

/// Runs with progress on standard error.
fn train(
    global: &Global,
    data: &Dataset,
    options: &Options,
    states: Option<&Embedded>,
) -> anyhow::Result<Outcome> {
    let progress: Mutex<(Option<Progress>, u64)> = Mutex::new((None, 0));
    let tell = |event: Event<'_>| match event {
        Event::Note(note) => tracing::info!("{note}"),
        Event::Shape {
            parameters,
            positional,
            networks,
            epochs,
            batch,
        } => {
            let trunk = parameters - positional;
            let tables = match positional {
                0 => String::new(),
                n => format!(", {trunk} of them the network's and {n} for positions"),
            };
            tracing::info!(
                "{} rows, {parameters} parameters{tables}; {networks} networks, at most {epochs} \
                 epochs of batches of {batch}",
                data.len()
            );
            let total = (networks * epochs) as u64;
            let bar = Progress::new(global, "head train", "epochs", Some(total));
            if let Ok(mut progress) = progress.lock() {
                progress.0 = Some(bar);
            }
        }
        Event::Epoch { name, of, epoch } => {
            tracing::debug!(
                "fold {name}: epoch {} of {of}, loss {:.4}, validation {:.4}, {:.0} sequences/s",
                epoch.epoch,
                epoch.train_loss,
                epoch.validation_score.unwrap_or(f64::NAN),
                epoch.rate
            );
            if let Ok(mut progress) = progress.lock() {
                progress.1 += 1;
                let done = progress.1;
                if let Some(bar) = &mut progress.0 {
                    bar.set(done);
                }
            }
        }
    };
    let flag = stop::flag();
    let outcome = run::run(data, options, states, &flag, &tell);
    if let Some(bar) = progress.into_inner().ok().and_then(|(bar, _)| bar) {
        bar.finish();
    }
    match (outcome, stop::signal()) {
        (Err(_), Some(signal)) => Err(Signalled(signal).into()),
        (outcome, _) => Ok(outcome?),
    }
}

fn options(global: &Global, command: &Train, device: Device) -> anyhow::Result<Options> {
    let positive = [
        ("--ensemble", command.ensemble),
        ("--patience", command.patience.unwrap_or(1)),
        ("--epochs", command.epochs.unwrap_or(1)),
        ("--batch", command.batch.unwrap_or(1)),
    ];
    if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
        return Err(Usage(format!("{name} 0: expected at least 1")).into());
    }
    if !(0.0..=0.5).contains(&command.validation) {
        let text = format!("--validation {}: expected 0 to 0.5", command.validation);
        return Err(Usage(text).into());
    }
    let (test, tests) = test_folds(&command.test_fold)?;
    let folds = match (command.folds, &command.split_column) {
        (None, Some(_)) | (Some(FoldsArg::Column), _) => Folds::Column,
        (None, None) | (Some(FoldsArg::Random), _) => Folds::Random,
        (Some(FoldsArg::Modulo), _) => Folds::Modulo,
        (Some(FoldsArg::Contiguous), _) => Folds::Contiguous,
        (Some(FoldsArg::ByOrder), _) => Folds::ByOrder,
    };
    let margin = match command.margin.as_str() {
        "auto" => Margin::Auto,
        "all" => Margin::All,
        text => Margin::Letters(text.parse().map_err(|_| {
            Usage(format!(
                "--margin {text}: expected a number of letters, auto or all"
            ))
        })?),
    };
    let position = !matches!(command.variant, VariantArg::Lyra);
    let curved = position && !command.linear;
    let lyra_asked = command.depth != 1
        || !command.expansions.is_empty()
        || command.bidirectional
        || command.causal;
    if matches!(command.variant, VariantArg::Sites) && (lyra_asked || command.linear) {
        let text = "--variant sites has neither convolutions nor state spaces, and is not linear: leave out \
                    --depth, --expansions, --bidirectional, --causal and --linear, or take --variant position";
        return Err(Usage(text.into()).into());
    }
    Ok(Options {
        task: match command.task {
            TaskArg::Regression => Task::Regression,
            TaskArg::Classification => Task::Classification,
            TaskArg::Multilabel => Task::Multilabel,
        },
        lyra: LyraConfig {
            d_model: command.d_model,
            d_state: command.d_state,
            depth: command.depth,
            kernel_size: command.kernel_size,
            expansions: command.expansions.clone(),
            bidirectional: command.bidirectional,
            causal: command.causal,
            nonlinear: !command.linear,
            properties: position,
            readout: if curved { 64 } else { 0 },
            curve: curved,
            // What is asked of convolutions and state spaces is for a network that has them.
            members: match command.variant {
                VariantArg::Auto if lyra_asked => 0,
                _ => command.members,
            },
            ..LyraConfig::default()
        },
        dropout: command.dropout,
        pool: match command.variant {
            VariantArg::Auto => Pool::Auto,
            VariantArg::Lyra => Pool::Mean,
            VariantArg::Position => Pool::Position,
            VariantArg::Sites => Pool::Sites,
        },
        training: Training {
            epochs: command.epochs.unwrap_or(0),
            batch: command.batch.unwrap_or(0),
            rate: command.lr,
            ssm_rate: command.ssm_lr,
            decay: command.weight_decay,
            patience: command.patience.unwrap_or(0),
            huber: command.huber,
            average: command.average,
            seed: command.seed,
            choice: match command.choose_by {
                ChoiceArg::Correlation => Choice::Correlation,
                ChoiceArg::R2 => Choice::R2,
            },
            ..Training::default()
        },
        ensemble: command.ensemble,
        plan: Plan {
            folds,
            count: command.fold_count,
            test,
            order: command.train_order,
            validation: command.validation,
            seed: command.seed,
        },
        test: tests,
        transform: match command.transform {
            TransformArg::None => Transform::None,
            TransformArg::Rank => Transform::Rank,
            TransformArg::Log => Transform::Log,
        },
        baselines: baselines(&command.baselines),
        margin,
        threads: global.threads(),
        device,
        command: command_line(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// The wanted folds, none for all, and whether there is a test at all.
fn test_folds(words: &[String]) -> anyhow::Result<(Vec<usize>, bool)> {
    match words {
        [word] if word == "all" => Ok((Vec::new(), true)),
        [word] if word == "none" => Ok((vec![0], false)),
        words => {
            let number = |word: &String| {
                word.parse().map_err(|_| {
                    Usage(format!(
                        "--test-fold {word}: expected numbers from 0, all or none"
                    ))
                })
            };
            let folds: Vec<usize> = words.iter().map(number).collect::<Result<_, _>>()?;
            Ok((folds, true))
        }
    }
}

fn baselines(wanted: &[BaselineArg]) -> Vec<Baseline> {
    let is = |arg| wanted.contains(&arg);
    if is(BaselineArg::All) {
        return Baseline::ALL.to_vec();
    }
    [
        (BaselineArg::Mean, Baseline::Mean),
        (BaselineArg::AdditiveRidge, Baseline::AdditiveRidge),
        (BaselineArg::PairwiseRidge, Baseline::PairwiseRidge),
        (BaselineArg::GlobalEpistasis, Baseline::GlobalEpistasis),
        (BaselineArg::Cnn, Baseline::Cnn),
    ]
    .into_iter()
    .filter(|(arg, _)| is(*arg))
    .map(|(_, baseline)| baseline)
    .collect()
}

/// The folder of the head.
fn write(out: &std::path::Path, data: &Dataset, outcome: &Outcome) -> anyhow::Result<()> {
    use cistron_model::checkpoint::write_atomically;
    let mut description = outcome.description.clone();
    let members: Vec<Vec<&cistron_model::lyra::Lyra>> = outcome
        .members
        .iter()
        .map(|fold| fold.iter().collect())
        .collect();
    folder::save(out, &mut description, &members)?;
    folder::write_json(&out.join("metrics.json"), &outcome.report)?;
    let predictions = tables::predictions(data, outcome);
    write_atomically(&out.join("predictions.tsv"), predictions.as_bytes())?;
    write_atomically(&out.join("curves.tsv"), tables::curves(outcome).as_bytes())?;
    let folder = out.join("plots");
    std::fs::create_dir_all(&folder)?;
    plots::draw(data, outcome, &folder)?;
    Ok(())
}

/// The head beside its baselines, the mean over folds.
fn table(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let measures: &[&str] = match report.task {
        Task::Regression => &["spearman", "pearson", "r2", "rmse"],
        _ => &["auroc", "auprc", "accuracy", "log_loss"],
    };
    let mut text = format!("of\tparameters\t{}\n", measures.join("\t"));
    let mut rows = vec![("head".to_owned(), report.parameters)];
    let first = &report.folds[0];
    rows.extend(
        first
            .baselines
            .iter()
            .map(|b| (b.name.name().to_owned(), b.parameters)),
    );
    for (name, parameters) in rows {
        let summary = report.summary.get(&name);
        text += &format!("{name}\t{parameters}");
        for measure in measures {
            match summary.and_then(|summary| summary.get(*measure)) {
                Some(spread) => text += &format!("\t{:.4}", spread.mean),
                None => text += "\tNA",
            }
        }
        text.push('\n');
    }
    let rows = |part: fn(&run::FoldReport) -> usize| {
        let counts = report.folds.iter().map(part).map(|count| count.to_string());
        counts.collect::<Vec<_>>().join(",")
    };
    let fewest = report.folds.iter().map(|fold| fold.validation).min();
    let kept = match fewest < Some(Rows::FEWEST) {
        true => "the last values are kept".to_owned(),
        false => format!(
            "the best epoch by validation {}",
            Metrics::score_name(report.task, report.training.choice)
        ),
    };
    text += &format!(
        "# rows: {} trained on, {} validation, {} test; {kept}\n",
        rows(|fold| fold.train),
        rows(|fold| fold.validation),
        rows(|fold| fold.test),
    );
    text
}
