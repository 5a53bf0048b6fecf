//! Networks and regressions of a run, several at a time.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cistron_model::lyra::{Lyra, LyraConfig};
use tch::{Device, Tensor};

use super::{Event, Options};
use crate::baseline::{self, Baseline};
use crate::dataset::{Dataset, Task};
use crate::error::HeadError;
use crate::folds::Split;
use crate::network::{Cnn, Global, Inputs, Network};
use crate::trainer::{self, Fit, Rows, SHARDS, Training};

/// What a job trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A member of the head.
    Member(usize),
    /// A baseline.
    Baseline(Baseline),
}

impl Kind {
    /// Whether it is a network.
    pub fn trains(self) -> bool {
        matches!(
            self,
            Self::Member(_) | Self::Baseline(Baseline::Cnn | Baseline::GlobalEpistasis)
        )
    }
}

/// Something to fit to the rows of a fold.
#[derive(Debug)]
pub struct Job {
    /// The fold.
    pub fold: usize,
    /// What is fitted.
    pub kind: Kind,
    /// Handles of its own.
    pub inputs: Inputs,
    /// The wild type, for a member that is compared with one.
    pub wild_type: Option<Tensor>,
}

/// What a job gave: numbers as they are learned, or probabilities.
#[derive(Debug)]
pub struct Done {
    /// The fold.
    pub fold: usize,
    /// What was fitted.
    pub kind: Kind,
    /// The trained network, for members.
    pub network: Option<Lyra>,
    /// How training went, for networks.
    pub fit: Option<Fit>,
    /// Number of parameters.
    pub parameters: usize,
    /// The chosen penalty of a ridge.
    pub penalty: Option<f64>,
    /// Seconds.
    pub seconds: f64,
    /// Predictions of the validation rows.
    pub validation: Vec<Vec<f64>>,
    /// Predictions of the test rows.
    pub test: Vec<Vec<f64>>,
}

/// What all jobs share.
pub struct Context<'a> {
    pub data: &'a Dataset,
    pub options: &'a Options,
    pub splits: &'a [Split],
    /// Targets as they are learned, by fold.
    pub learned: &'a [Vec<Vec<f64>>],
    pub views: &'a [&'a [u8]],
    pub reference: &'a [u8],
    pub lyra: &'a LyraConfig,
    pub training: &'a Training,
    /// Parameters of the head that do not grow with length.
    pub trunk: usize,
    pub stop: &'a AtomicBool,
    pub tell: &'a (dyn Fn(Event<'_>) + Sync),
}

/// Runs all jobs; results come in their order.
pub fn run_all(jobs: Vec<Job>, context: &Context<'_>) -> Result<Vec<Done>, HeadError> {
    let threads = context.options.threads;
    let on_cpu = context.options.device == Device::Cpu;
    if on_cpu {
        // Shards and jobs are what runs side by side.
        tch::set_num_threads(1);
    }
    let parallel = on_cpu && threads >= SHARDS;
    let workers = match on_cpu {
        true if parallel => threads / SHARDS,
        true => 1,
        false => 3,
    };
    let count = jobs.len();
    let workers = workers.clamp(1, count.max(1));
    let queue: Mutex<VecDeque<(usize, Job)>> = Mutex::new(jobs.into_iter().enumerate().collect());
    let results: Mutex<Vec<Option<Result<Done, HeadError>>>> =
        Mutex::new((0..count).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = locked(&queue).pop_front();
                    let Some((place, job)) = next else { break };
                    let result = run_one(job, context, parallel);
                    let failed = result.is_err();
                    locked(&results)[place] = Some(result);
                    if failed {
                        locked(&queue).clear();
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut done = Vec::with_capacity(count);
    let mut error = None;
    for result in results {
        match result {
            Some(Ok(result)) => done.push(result),
            Some(Err(problem)) => error = error.or(Some(problem)),
            None => {}
        }
    }
    error.map_or(Ok(done), Err)
}

/// The content, also after a panic elsewhere, which ends the run anyway.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(job: Job, context: &Context<'_>, parallel: bool) -> Result<Done, HeadError> {
    let Context { data, options, .. } = *context;
    let split = &context.splits[job.fold];
    let rows = Rows {
        train: &split.train,
        validation: &split.validation,
        targets: &context.learned[job.fold],
    };
    let started = std::time::Instant::now();
    let classes = data.classes.len();
    if let Kind::Baseline(baseline) = job.kind
        && !job.kind.trains()
    {
        let wanted = [split.validation.as_slice(), &split.test].concat();
        let (mut predicted, parameters, penalty) = baseline::linear(
            baseline,
            options.task,
            classes,
            baseline::Views {
                sequences: context.views,
                reference: context.reference,
            },
            rows,
            context.training.choice,
            &wanted,
        );
        let test = predicted.split_off(split.validation.len());
        return Ok(Done {
            fold: job.fold,
            kind: job.kind,
            network: None,
            fit: None,
            parameters,
            penalty,
            seconds: started.elapsed().as_secs_f64(),
            validation: predicted,
            test,
        });
    }
    let member = match job.kind {
        Kind::Member(member) => member,
        Kind::Baseline(_) => 0,
    };
    let seed = options.training.seed;
    let seed = seed.wrapping_mul(1_000_003) + 1_009 * job.fold as u64 + member as u64;
    let mut settings = Training {
        seed,
        ..context.training.clone()
    };
    let (letters, outputs) = (job.inputs.size, context.lyra.d_output);
    let name = match job.kind {
        Kind::Baseline(baseline) => format!("{} {}", split.name, baseline.name()),
        Kind::Member(member) => format!("{} member {member}", split.name),
    };
    let network = match job.kind {
        Kind::Member(_) => {
            let lyra = Lyra::new(context.lyra, seed, options.device)?;
            Network::Lyra(Box::new(lyra), job.wild_type)
        }
        Kind::Baseline(Baseline::Cnn) => {
            settings.rate = 1e-3;
            Network::Cnn(Cnn::new(
                letters,
                outputs,
                context.trunk,
                seed,
                options.device,
            ))
        }
        Kind::Baseline(_) => {
            settings.rate = 1e-2;
            Network::Global(Global::new(
                letters,
                job.inputs.length(),
                outputs,
                options.device,
            ))
        }
    };
    let mut report = |epoch: &trainer::Epoch| {
        (context.tell)(Event::Epoch {
            name: &name,
            of: settings.epochs,
            epoch,
        });
    };
    let fit = trainer::train(
        &network,
        &job.inputs,
        options.task,
        rows,
        &settings,
        &trainer::Control {
            parallel,
            stop: context.stop,
        },
        &mut report,
    )?;
    let predict =
        |rows: &[usize]| trainer::predict(&network, &job.inputs, options.task, rows, parallel);
    let (validation, test) = (predict(&split.validation), predict(&split.test));
    let parameters = network.size();
    let seconds = started.elapsed().as_secs_f64();
    Ok(Done {
        fold: job.fold,
        kind: job.kind,
        network: match network {
            Network::Lyra(lyra, _) => Some(*lyra),
            _ => None,
        },
        fit: Some(fit),
        parameters,
        penalty: None,
        seconds,
        validation,
        test,
    })
}

/// Predictions in units of the targets.
pub fn in_units(task: Task, scales: &[crate::scale::Scale], rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    if task != Task::Regression {
        return rows;
    }
    rows.into_iter()
        .map(|row| {
            row.iter()
                .zip(scales)
                .map(|(&value, scale)| scale.backward(value))
                .collect()
        })
        .collect()
}
