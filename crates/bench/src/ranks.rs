//! Whole training steps on several ranks: how throughput grows, and what the exchange costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cistron_kernels::profile::profile;
use cistron_kernels::runtime;
use cistron_model::{Compute, Config};
use cistron_train::RunConfig;
use cistron_train::TrainError;
use cistron_train::batch::Batch;
use cistron_train::collective::{Collective, Exchange, Pending};
use cistron_train::config::{
    DataConfig, LongRangeConfig, OptimizerConfig, ScheduleConfig, TrainConfig,
};
use cistron_train::trainer::Trainer;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::BenchError;
use crate::nucleotides;
use crate::timing::{Clock, Times};
use crate::trace::Busy;

/// What to measure on each rank.
#[derive(Debug, Clone)]
pub struct RanksOptions {
    /// The model.
    pub config: Config,
    /// How it computes.
    pub compute: Compute,
    /// Sequences of a batch on one rank alone.
    pub batch: i64,
    /// Tokens of each.
    pub length: i64,
    /// Where rank 0 writes a profile of some steps, if it does.
    pub trace: Option<PathBuf>,
}

/// What grows with the number of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// The batch: each rank has as much as one alone.
    Weak,
    /// Nothing: ranks divide the batch of one.
    Strong,
}

/// When gradients are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// During the backward pass.
    Overlapped,
    /// After it.
    After,
    /// Never: what a step would take if that were free. The ranks drift apart.
    None,
}

/// One way of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What grows.
    pub scaling: Scaling,
    /// Whether the optimizer is sharded.
    pub zero: bool,
    /// When gradients are exchanged.
    pub exchange: Schedule,
}

/// How fast it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseResult {
    /// What was measured.
    #[serde(flatten)]
    pub case: Case,
    /// Sequences of a batch on each rank.
    pub batch: i64,
    /// Seconds of a step: both passes, the exchange and the optimizer.
    pub seconds: Times,
    /// Tokens a second of all ranks together.
    pub tokens_per_second: f64,
    /// The same over what as many ranks of one alone would do; none where that is not known.
    pub efficiency: Option<f64>,
    /// The most bytes that tensors held on each GPU.
    pub peak_bytes: Vec<u64>,
    /// The loss after the last step, nats a base.
    pub loss: f64,
}

/// The exchange by itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AllReduce {
    /// Bytes of all gradients.
    pub bytes: u64,
    /// Seconds to sum them over the ranks as one tensor: the floor of a step's exchange.
    pub seconds: Times,
    /// `2 (n - 1) / n` times the bytes over the time: what each rank sends a second, as
    /// NCCL's own tests count it.
    pub bus_bytes_per_second: f64,
}

/// All that was measured on some number of ranks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RanksResult {
    /// Number of ranks.
    pub ranks: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// The exchange by itself, where there is one.
    pub all_reduce: Option<AllReduce>,
    /// One entry a case.
    pub cases: Vec<CaseResult>,
    /// What a profile of the first case says of the GPU of rank 0.
    pub busy: Option<Busy>,
}

impl RanksResult {
    /// The result of a case.
    pub fn case(&self, scaling: Scaling, zero: bool, exchange: Schedule) -> Option<&CaseResult> {
        let wanted = Case {
            scaling,
            zero,
            exchange,
        };
        self.cases.iter().find(|result| result.case == wanted)
    }

    /// Seconds of a weak step that the exchange is waited for: with it less without it.
    pub fn exposed(&self, exchange: Schedule) -> Option<f64> {
        let step = |exchange| self.case(Scaling::Weak, false, exchange);
        Some(step(exchange)?.seconds.median - step(Schedule::None)?.seconds.median)
    }

    /// Sets the efficiencies against one rank of the same machine.
    pub fn compare(&mut self, one: &Self) {
        let Some(alone) = one.case(Scaling::Weak, false, Schedule::Overlapped) else {
            return;
        };
        for result in &mut self.cases {
            let ideal = alone.tokens_per_second * self.ranks as f64;
            result.efficiency = Some(result.tokens_per_second / ideal);
        }
    }
}

/// What is measured on `ranks` ranks; strong scaling only where they divide the batch.
fn cases(ranks: u64, batch: i64) -> Vec<(Case, i64)> {
    let case = |scaling, zero, exchange| Case {
        scaling,
        zero,
        exchange,
    };
    let mut cases = vec![(case(Scaling::Weak, false, Schedule::Overlapped), batch)];
    if ranks == 1 {
        return cases;
    }
    cases.push((case(Scaling::Weak, false, Schedule::After), batch));
    cases.push((case(Scaling::Weak, false, Schedule::None), batch));
    cases.push((case(Scaling::Weak, true, Schedule::Overlapped), batch));
    let ranks = i64::try_from(ranks).unwrap_or(i64::MAX);
    if batch % ranks == 0 {
        let share = batch / ranks;
        for zero in [false, true] {
            cases.push((case(Scaling::Strong, zero, Schedule::Overlapped), share));
        }
    }
    cases
}

/// Measures this rank among those of `group`; all ranks call it with the same options.
///
/// # Errors
///
/// The model cannot be built, memory runs out, or ranks are lost.
pub fn ranks(
    options: &RanksOptions,
    group: &Arc<dyn Collective>,
    clock: &Clock,
) -> Result<RanksResult, BenchError> {
    let mut results = Vec::new();
    let mut parameters = 0;
    let mut trace = options.trace.as_deref();
    for (case, batch) in cases(group.world(), options.batch) {
        let (result, count) = step(options, group, clock, case, batch, trace.take())?;
        parameters = count;
        results.push(result);
    }
    let traced = options.trace.as_deref().filter(|_| group.rank() == 0);
    let busy = traced.map(Busy::read).transpose()?.flatten();
    let all_reduce = match group.world() {
        1 => None,
        _ => Some(all_reduce(group, clock, parameters)?),
    };
    Ok(RanksResult {
        ranks: group.world(),
        parameters,
        all_reduce,
        cases: results,
        busy,
    })
}

/// Steps of a profile.
const TRACED: usize = 3;

fn step(
    options: &RanksOptions,
    group: &Arc<dyn Collective>,
    clock: &Clock,
    case: Case,
    batch: i64,
    trace: Option<&Path>,
) -> Result<(CaseResult, u64), BenchError> {
    let config = RunConfig {
        model: options.config.clone(),
        data: DataConfig::default(),
        optimizer: OptimizerConfig::default(),
        schedule: ScheduleConfig::default(),
        train: TrainConfig {
            zero: case.zero,
            ..TrainConfig::default()
        },
        long_range: LongRangeConfig::default(),
    };
    let mut trainer = Trainer::new(&config, clock.device)?;
    trainer.model = trainer.model.leaves().with_compute(options.compute.clone());
    let members: Arc<dyn Collective> = match case.exchange {
        Schedule::None => Arc::new(Mute(Arc::clone(group))),
        _ => Arc::clone(group),
    };
    trainer.join(members, case.exchange == Schedule::Overlapped)?;
    // Each rank has bases of its own.
    tch::manual_seed(group.rank() as i64);
    let tokens = nucleotides(batch * options.length, &options.config, clock.device);
    let targets = tokens.roll([-1], [0]);
    let (mut problem, mut loss) = (None, 0.0);
    let mut work = || {
        let batch = Batch::new(
            tokens.shallow_clone(),
            targets.shallow_clone(),
            vec![options.length; batch as usize],
            (batch * options.length) as u64,
        );
        match trainer.step_on(vec![batch], Instant::now(), &|| None) {
            Ok(report) => loss = report.tally.nats_per_base(),
            Err(error) => {
                problem.get_or_insert(error);
            }
        }
    };
    // The optimizer's memory is there from the start, that of a step after the first.
    work();
    runtime::peak_memory(clock.device, true);
    let seconds = clock.time(&mut work);
    let own = runtime::peak_memory(clock.device, false).unwrap_or(0);
    if let Some(path) = trace {
        let mut steps = || {
            for _ in 0..TRACED {
                work();
            }
            clock.synchronize();
        };
        match group.rank() {
            0 => profile(clock.device, path, steps).map_err(BenchError::Setting)?,
            _ => steps(),
        }
    }
    if let Some(error) = problem {
        return Err(error.into());
    }
    let mut peaks = vec![0.0; group.world() as usize];
    peaks[group.rank() as usize] = own as f64;
    group.sum(&mut peaks)?;
    let tokens = batch * options.length * group.world() as i64;
    let result = CaseResult {
        case,
        batch,
        seconds,
        tokens_per_second: tokens as f64 / seconds.median,
        efficiency: None,
        peak_bytes: peaks.into_iter().map(|bytes| bytes as u64).collect(),
        loss,
    };
    Ok((result, trainer.model.params().count()))
}

fn all_reduce(
    group: &Arc<dyn Collective>,
    clock: &Clock,
    parameters: u64,
) -> Result<AllReduce, BenchError> {
    let values = Tensor::zeros([parameters as i64], (Kind::Float, clock.device));
    let mut problem = None;
    let seconds = clock.time(|| {
        let done = group.start(Exchange::Sum, &values).and_then(Pending::wait);
        if let Err(error) = done {
            problem.get_or_insert(error);
        }
    });
    if let Some(error) = problem {
        return Err(error.into());
    }
    let (bytes, ranks) = (4 * parameters, group.world() as f64);
    Ok(AllReduce {
        bytes,
        seconds,
        bus_bytes_per_second: 2.0 * (ranks - 1.0) / ranks * bytes as f64 / seconds.median,
    })
}

/// A group that leaves gradients where they are; numbers are exchanged as ever.
#[derive(Debug)]
struct Mute(Arc<dyn Collective>);

impl Collective for Mute {
    fn rank(&self) -> u64 {
        self.0.rank()
    }

    fn world(&self) -> u64 {
        self.0.world()
    }

    fn device(&self) -> Device {
        self.0.device()
    }

    fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, TrainError> {
        match tensor.kind() {
            Kind::Float => Ok(Pending::done()),
            _ => self.0.start(exchange, tensor),
        }
    }

    fn finish(&self) -> Result<(), TrainError> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_train::collective::Alone;

    #[test]
    fn one_rank_is_measured_without_an_exchange() {
        let options = RanksOptions {
            config: crate::preset("tiny").unwrap(),
            compute: Compute::new(cistron_model::Precision::Fp32),
            batch: 2,
            length: 64,
            trace: None,
        };
        let clock = Clock {
            device: Device::Cpu,
            repeat: 1,
            warmup: 0,
        };
        let mut result = ranks(&options, &Alone::group(), &clock).unwrap();
        assert!(result.all_reduce.is_none() && result.cases.len() == 1);
        assert!(result.cases[0].loss > 0.5 && result.cases[0].loss < 5.0);
        let one = result.clone();
        result.ranks = 2;
        result.compare(&one);
        assert_eq!(result.cases[0].efficiency, Some(0.5));
        assert_eq!(cases(2, 4).len(), 6);
        assert_eq!(cases(2, 3).len(), 4);
    }
}
