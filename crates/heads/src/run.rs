//! A training from a dataset to a head, beside its baselines.

mod jobs;
mod result;

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cistron_model::lyra::{LyraConfig, Pooling};
use tch::{Device, Tensor};

use crate::baseline::Baseline;
use crate::dataset::{Dataset, Task};
use crate::error::HeadError;
use crate::folder::{Backbone, Description, Fold};
use crate::folds::{self, Plan};
use crate::network::Inputs;
use crate::scale::{Scale, Transform};
use crate::trainer::{Epoch, Training};
use crate::view::{FEW, Margin, View};
use jobs::{Job, Kind};
pub use result::{
    BaselineReport, FoldReport, MemberReport, Outcome, Prediction, Report, Spread, Summary,
};
pub(crate) use result::{ensemble, width};

/// Beyond this many rows members of a network on few sites need no more dropout than this.
const MANY: (usize, f64) = (20_000, 0.05);

/// How positions become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// By position where there is a wild type, else the mean.
    Auto,
    /// The published mean over positions.
    Mean,
    /// Weighted by position, as a difference to the wild type.
    Position,
    /// None: members read all positions, which are few.
    Sites,
}

/// States of a backbone for every row of the dataset, and for the wild type.
#[derive(Debug)]
pub struct Embedded {
    /// Which backbone.
    pub backbone: Backbone,
    /// Half precision `[n, L, d]`.
    pub states: Tensor,
    /// `[n, L]`, 1 where there is a state.
    pub mask: Tensor,
    /// `[1, L, d]`, where all rows have the wild type's length.
    pub wild_type: Option<Tensor>,
}

/// What to do with a dataset.
#[derive(Debug)]
pub struct Options {
    /// What is learned.
    pub task: Task,
    /// Shape of the network; inputs, outputs and pooling are filled in, and expansions where there
    /// are none.
    pub lyra: LyraConfig,
    /// From positions to one vector.
    pub pool: Pool,
    /// Chance of a channel to be left out; `None` for that of `lyra`, but less where members learn from many
    /// rows.
    pub dropout: Option<f64>,
    /// How to train; what is 0 is filled in.
    pub training: Training,
    /// Networks a fold.
    pub ensemble: usize,
    /// How rows are divided; `None` trains on all of them.
    pub plan: Plan,
    /// Whether any row is left for a test.
    pub test: bool,
    /// What happens to targets first.
    pub transform: Transform,
    /// What is trained beside the head.
    pub baselines: Vec<Baseline>,
    /// What is read of sequences.
    pub margin: Margin,
    /// Threads of the CPU.
    pub threads: usize,
    /// Where networks run.
    pub device: Device,
    /// The command, for provenance.
    pub command: String,
    /// Version of the tool.
    pub tool_version: String,
}

/// What is told while networks are trained.
#[derive(Debug)]
pub enum Event<'a> {
    /// A decision about the data.
    Note(&'a str),
    /// The shape is settled.
    Shape {
        /// Parameters of the head.
        parameters: usize,
        /// Those that grow with the wild type's length.
        positional: usize,
        /// Networks to train, baselines among them.
        networks: usize,
        /// Epochs of each.
        epochs: usize,
        /// Rows a step.
        batch: usize,
    },
    /// A network has seen all training rows once more.
    Epoch {
        /// Which network.
        name: &'a str,
        /// Epochs in all.
        of: usize,
        /// The epoch.
        epoch: &'a Epoch,
    },
}

/// Trains heads and baselines.
///
/// # Errors
///
/// The options do not fit the data, or the run was stopped.
pub fn run(
    data: &Dataset,
    options: &Options,
    embedded: Option<&Embedded>,
    stop: &AtomicBool,
    tell: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Outcome, HeadError> {
    let started = Instant::now();
    let mut notes = data.notes.clone();
    let (mut splits, more) = folds::split(data, &options.plan)?;
    notes.extend(more);
    if !options.test {
        let mut first = splits.swap_remove(0);
        first.name = "all".into();
        first.train.append(&mut first.test);
        first.train.sort_unstable();
        splits = vec![first];
    }
    let (view, mut lyra) = shape(data, options, embedded, &mut notes)?;
    if splits
        .iter()
        .any(|s| s.validation.len() < crate::trainer::Rows::FEWEST)
    {
        notes.push(
            "fewer than 10 validation rows: training runs to its end and the last values are kept"
                .into(),
        );
    }
    notes.iter().for_each(|note| tell(Event::Note(note)));
    let views: Vec<Cow<'_, [u8]>> = data
        .sequences
        .iter()
        .map(|sequence| view.of(sequence))
        .collect();
    let views: Vec<&[u8]> = views.iter().map(AsRef::as_ref).collect();
    let reference = match &data.wild_type {
        Some(wild_type) => view.of(wild_type).to_vec(),
        None => Vec::new(),
    };
    let mut inputs = Inputs::letters(&views, data.alphabet.size(), options.device);
    if let Some(embedded) = embedded {
        let place = |tensor: &Tensor| tensor.to_device(options.device);
        inputs.embeddings = Some((place(&embedded.states), place(&embedded.mask)));
    }
    let wild_type = (lyra.pooling == Pooling::Position).then(|| match embedded {
        Some(embedded) => {
            let states = embedded.wild_type.as_ref().expect("it was checked");
            states.to_kind(tch::Kind::Float).to_device(options.device)
        }
        None => {
            let letters: Vec<i64> = reference.iter().map(|&letter| i64::from(letter)).collect();
            Tensor::from_slice(&letters)
                .unsqueeze(0)
                .to_device(options.device)
        }
    });
    let rows = splits
        .iter()
        .map(|split| split.train.len())
        .min()
        .unwrap_or(0);
    let letters = embedded.is_none().then(|| inputs.length());
    let training = options.training.clone().for_rows(rows, letters);
    lyra.dropout = dropout(options.dropout, &lyra, rows);
    let (parameters, positional) = size(&lyra)?;
    let mut folds = Vec::new();
    let mut learned: Vec<Vec<Vec<f64>>> = Vec::new();
    for split in &splits {
        let train: Vec<&Vec<f64>> = split.train.iter().map(|&row| &data.targets[row]).collect();
        let scales = Scale::fit_all(options.task, options.transform, &train);
        let forward = |row: &Vec<f64>| -> Vec<f64> {
            row.iter()
                .zip(&scales)
                .map(|(&value, scale)| scale.forward(value))
                .collect()
        };
        learned.push(data.targets.iter().map(forward).collect());
        folds.push(Fold {
            name: split.name.clone(),
            scales,
            members: Vec::new(),
            residual: None,
        });
    }
    let mut jobs = Vec::new();
    for fold in 0..splits.len() {
        let mut push = |kind| {
            jobs.push(Job {
                fold,
                kind,
                inputs: inputs.shallow_clone(),
                wild_type: wild_type.as_ref().map(Tensor::shallow_clone),
            });
        };
        (0..options.ensemble).for_each(|member| push(Kind::Member(member)));
        options
            .baselines
            .iter()
            .for_each(|&baseline| push(Kind::Baseline(baseline)));
    }
    let networks = jobs.iter().filter(|job| job.kind.trains()).count();
    tell(Event::Shape {
        parameters,
        positional,
        networks,
        epochs: training.epochs,
        batch: training.batch,
    });
    let context = jobs::Context {
        data,
        options,
        splits: &splits,
        learned: &learned,
        views: &views,
        reference: &reference,
        lyra: &lyra,
        training: &training,
        trunk: parameters - positional,
        stop,
        tell,
    };
    let done = jobs::run_all(jobs, &context)?;
    let description = Description {
        format: Description::FORMAT,
        tool_version: options.tool_version.clone(),
        command: options.command.clone(),
        task: options.task,
        alphabet: data.alphabet,
        view,
        wild_type: data
            .wild_type
            .as_ref()
            .map(|letters| data.alphabet.text(letters)),
        first: data.first,
        targets: data.target_names.clone(),
        classes: data.classes.clone(),
        lyra: lyra.clone(),
        backbone: embedded.map(|embedded| embedded.backbone.clone()),
        folds,
    };
    let seconds = started.elapsed().as_secs_f64();
    Ok(result::assemble(
        &context,
        description,
        notes,
        parameters,
        done,
        seconds,
    ))
}

/// The positions in view and the shape of the network.
fn shape(
    data: &Dataset,
    options: &Options,
    embedded: Option<&Embedded>,
    notes: &mut Vec<String>,
) -> Result<(View, LyraConfig), HeadError> {
    let mut lyra = options.lyra.clone();
    let (shortest, longest) = data.lengths();
    let equal = shortest == longest;
    let whole = embedded.is_some();
    let view = match whole {
        true => View::default(),
        false => View::of_data(data, options.margin),
    };
    if !view.sites.is_empty() && view.sites.len() < longest {
        notes.push(format!(
            "only the letters that vary are read, {} of {longest}; --margin 8 reads letters beside \
             them, --margin all every letter",
            view.sites.len()
        ));
    } else if let Some(end) = view.end
        && (view.start > 0 || end < longest)
    {
        notes.push(format!(
            "only letters {} to {end} of {longest} are read: beyond them all rows are the same; \
             --margin all reads every letter",
            view.start + 1
        ));
    }
    if !equal {
        notes.push(format!(
            "sequences have {shortest} to {longest} letters: shorter ones are filled up and the \
             filling is masked"
        ));
    }
    let comparable = match embedded {
        Some(embedded) => embedded.wild_type.is_some(),
        None => data.wild_type.is_some(),
    };
    lyra.d_input = match embedded {
        Some(embedded) => embedded.states.size()[2],
        None => data.alphabet.size() as i64,
    };
    lyra.d_output = match options.task {
        Task::Classification => data.classes.len() as i64,
        _ => data.target_names.len() as i64,
    };
    let protein = data.alphabet.molecule == crate::alphabet::Molecule::Protein;
    lyra.properties &= protein && !whole;
    match options.pool {
        Pool::Position if !comparable => {
            return Err(data.error(
                "position pooling compares each sequence with a wild type of its length, but \
                 lengths differ; use --variant lyra",
            ));
        }
        Pool::Sites if view.sites.is_empty() => {
            return Err(data.error(format!(
                "variant sites is for sequences of one length in which at most {FEW} positions vary, read alone; \
                 use --variant auto"
            )));
        }
        Pool::Auto | Pool::Position | Pool::Sites if comparable => {
            let length = match embedded {
                Some(embedded) => embedded.states.size()[1],
                None => view.of(&data.sequences[0]).len() as i64,
            };
            // Two tables of length x width beside the network: not for sequences so long that
            // these would be all of it.
            if options.pool != Pool::Auto || 2 * length * lyra.d_model <= 100_000 {
                lyra.pooling = Pooling::Position;
                lyra.length = Some(length);
            }
        }
        _ => {}
    }
    let position = lyra.pooling == Pooling::Position;
    lyra.sites = position && !view.sites.is_empty();
    lyra.curve &= position;
    if !(lyra.sites && lyra.nonlinear && matches!(options.pool, Pool::Auto | Pool::Sites)) {
        lyra.members = 0;
    }
    if lyra.members > 0 {
        lyra.ranks = options.task == Task::Regression;
        (lyra.readout, lyra.depth, lyra.expansions) = (0, 0, Vec::new());
        return Ok((view, lyra));
    }
    if !position {
        lyra.readout = 0;
    }
    if lyra.expansions.is_empty() {
        // Where all is in few letters, their vectors should not pass through a quarter of the width.
        lyra.expansions = match lyra.sites {
            true => vec![1.0, 2.0],
            false => LyraConfig::default().expansions,
        };
    }
    Ok((view, lyra))
}

/// The chance of a channel to be left out: what is asked for, else that of `lyra`, but for [`MANY`].
fn dropout(asked: Option<f64>, lyra: &LyraConfig, rows: usize) -> f64 {
    let (many, most) = MANY;
    match asked {
        Some(dropout) => dropout,
        None if lyra.members > 0 && rows > many => lyra.dropout.min(most),
        None => lyra.dropout,
    }
}

/// Parameters of a network, and those of them that grow with the wild type's length.
fn size(lyra: &LyraConfig) -> Result<(usize, usize), HeadError> {
    let network = cistron_model::lyra::Lyra::new(lyra, 0, Device::Cpu)?;
    let letters = if lyra.sites { lyra.d_input + 1 } else { 0 };
    let tables = if lyra.members > 0 { 1 } else { 2 };
    let positional = (tables + letters) * lyra.length.unwrap_or(0) * lyra.d_model;
    Ok((network.params().count(), positional as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_of_few_sites_take_less_dropout() {
        let lyra = |members| LyraConfig {
            members,
            ..LyraConfig::default()
        };
        assert_eq!(dropout(None, &lyra(4), 20_000), 0.2);
        assert_eq!(dropout(None, &lyra(4), 20_001), 0.05);
        assert_eq!(dropout(None, &lyra(0), 20_001), 0.2);
        assert_eq!(dropout(Some(0.3), &lyra(4), 20_001), 0.3);
    }
}
