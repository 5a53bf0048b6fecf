//! One step on several ranks: gradients are exchanged while the backward pass goes on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use cistron_kernels::hooks;
use cistron_model::HNet;
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::batch::Batch;
use crate::buckets::{self, Buckets, Plan};
use crate::collective::{Collective, Exchange, Pending};
use crate::loss::Counted;
use crate::workers::{self, Gradients, Weights};

/// A model's part in a group of ranks.
#[derive(Debug)]
pub struct Parallel {
    group: Arc<dyn Collective>,
    buckets: Buckets,
    /// Whether each rank keeps the optimizer's state of its own part alone.
    zero: bool,
    /// Whether buckets are exchanged during the backward pass.
    overlap: bool,
}

/// What the batches of a step have left.
#[derive(Debug)]
pub struct Ran {
    /// Sums of the gradients.
    pub gradients: Gradients,
    /// What was counted of each batch of this rank.
    pub counts: Vec<Counted>,
    /// For each slot of the plan, whether this rank has used the parameter; empty for one alone.
    pub used: Vec<bool>,
    /// The states after the rows of each batch that keeps them.
    pub states: Vec<Option<cistron_model::State>>,
}

impl Parallel {
    /// Lays out the buckets for `model`, the same way on all ranks.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached, or have other weights than rank 0.
    pub fn new(
        model: &HNet,
        group: Arc<dyn Collective>,
        zero: bool,
        overlap: bool,
        capacity: i64,
    ) -> Result<Self, TrainError> {
        same_weights(model, &*group)?;
        let order = group.share(&order(model)?.join("\n"))?;
        let order: Vec<String> = order.lines().map(str::to_owned).collect();
        let shapes = buckets::shapes(model.params(), &order);
        let plan = Plan::new(&shapes, group.world(), capacity);
        Ok(Self {
            buckets: Buckets::new(plan, model.device()),
            group,
            zero,
            overlap,
        })
    }

    /// Whether the optimizer's state is sharded.
    pub fn zero(&self) -> bool {
        self.zero
    }

    /// The buckets.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Runs this rank's batches of a step. Gradients are sums over all ranks, of this rank's
    /// part alone where the optimizer is sharded.
    ///
    /// # Errors
    ///
    /// libtorch refuses an operation, or the ranks cannot be reached.
    pub fn run(&self, model: &HNet, batches: &[Batch]) -> Result<Ran, TrainError> {
        self.buckets.clear();
        let progress = Arc::new(Progress::new(self));
        let scored: u64 = batches.iter().map(|batch| batch.scored).sum();
        let mut totals = Totals::new(scored, Arc::clone(&self.group));
        let mut counts = Vec::new();
        let mut states = Vec::new();
        for (part, batch) in batches.iter().enumerate() {
            let leaves = model.leaves();
            let last = part + 1 == batches.len();
            progress.begin(last);
            for (index, slot) in self.buckets.plan.slots.iter().enumerate() {
                let param = leaves.params().get(&slot.name);
                let param = param.expect("the plan has the model's parameters");
                let progress = Arc::clone(&progress);
                hooks::gather_into(&param.tensor, &self.buckets.view(slot), move || {
                    progress.arrived(index).map_err(|error| error.to_string())
                });
            }
            let weights = Weights {
                nats: 1.0,
                ratio: 1.0 / batches.len() as f64,
            };
            let (counted, state) = workers::pass(&leaves, batch, weights, Some(&mut totals))?;
            counts.push(counted);
            states.push(state);
        }
        let used = progress.finish()?;
        let gradients = if self.zero {
            self.buckets.parts(self.group.rank())
        } else {
            self.buckets.views()
        };
        Ok(Ran {
            gradients,
            counts,
            used,
            states,
        })
    }

    /// Gives all ranks the parameters that each has updated in its part.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn publish(&self, model: &HNet) -> Result<(), TrainError> {
        if !self.zero {
            return Ok(());
        }
        self.buckets.put(model.params(), self.group.rank());
        self.gather(&self.buckets)?;
        self.buckets.take(model.params());
        Ok(())
    }

    /// The whole state of a sharded optimizer, on all ranks; none where it is whole.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn whole(&self, optimizer: &AdamW) -> Result<Option<AdamW>, TrainError> {
        if !self.zero {
            return Ok(None);
        }
        let gather = |first: bool| -> Result<Gradients, TrainError> {
            let buckets = Buckets::new(self.buckets.plan.clone(), self.group.device());
            for stretch in self.buckets.plan.stretches(self.group.rank()) {
                if let Some(moment) = optimizer.moment(&stretch.name, first) {
                    buckets.part(&stretch).copy_(moment);
                }
            }
            self.gather(&buckets)?;
            Ok(buckets
                .views()
                .into_iter()
                .map(|(name, view)| (name, view.to_device(tch::Device::Cpu)))
                .collect())
        };
        Ok(Some(optimizer.with_moments(gather(true)?, gather(false)?)))
    }

    fn gather(&self, buckets: &Buckets) -> Result<(), TrainError> {
        let started: Vec<Pending> = buckets
            .flat
            .iter()
            .map(|bucket| self.group.start(Exchange::Gather, bucket))
            .collect::<Result<_, _>>()?;
        started.into_iter().try_for_each(Pending::wait)
    }
}

/// Ranks start from the same seed or checkpoint; what differs would never meet again.
fn same_weights(model: &HNet, group: &dyn Collective) -> Result<(), TrainError> {
    let sums: Vec<Tensor> = model
        .params()
        .iter()
        .map(|(_, param)| param.tensor.detach().sum(Kind::Double))
        .collect();
    let mine = Tensor::stack(&sums, 0).sum(Kind::Double).double_value(&[]);
    let mut theirs = [if group.rank() == 0 { mine } else { 0.0 }];
    group.sum(&mut theirs)?;
    // Sums on one kind of device repeat bit for bit; on two kinds they nearly do.
    if (mine - theirs[0]).abs() <= 1e-6 * mine.abs().max(1.0) {
        return Ok(());
    }
    Err(TrainError::Ranks(format!(
        "rank {} has other weights than rank 0: all ranks need the same version, configuration \
         and checkpoints",
        group.rank()
    )))
}

/// Names of the parameters in the order in which a backward pass completes their gradients.
fn order(model: &HNet) -> Result<Vec<String>, TrainError> {
    const TOKENS: i64 = 64;
    let leaves = model.leaves();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    for (name, param) in leaves.params().iter() {
        let (seen, name) = (Arc::clone(&seen), name.to_owned());
        hooks::gather_into(
            &param.tensor,
            &param.tensor.detach().zeros_like(),
            move || {
                if let Ok(mut seen) = seen.lock() {
                    seen.push(name.clone());
                }
                Ok(())
            },
        );
    }
    let tokens = Tensor::arange(TOKENS, (Kind::Int64, model.device())).remainder(4i64);
    let output = leaves.forward(&tokens, &[TOKENS]);
    output
        .logits
        .sum(Kind::Float)
        .f_backward()
        .map_err(cistron_model::ModelError::from)?;
    let mut seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    let known: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    let unseen: Vec<String> = model
        .params()
        .iter()
        .map(|(name, _)| name.to_owned())
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    seen.extend(unseen);
    Ok(seen)
}

/// Which buckets of a step are full, and which are on their way.
#[derive(Debug)]
struct Progress {
    group: Arc<dyn Collective>,
    exchange: Exchange,
    overlap: bool,
    /// Bucket of each parameter.
    slots: Vec<usize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buckets: Vec<Tensor>,
    /// Parameters that each bucket still waits for.
    missing: Vec<usize>,
    /// Parameters that have a gradient, in this part of the step and at all.
    arrived: Vec<bool>,
    used: Vec<bool>,
    /// Whether the part under way is the last.
    last: bool,
    /// Buckets that are on their way, the first ones.
    started: Vec<Pending>,
}

impl Progress {
    fn new(parallel: &Parallel) -> Self {
        let plan = &parallel.buckets.plan;
        let mut missing = vec![0; plan.sizes.len()];
        for slot in &plan.slots {
            missing[slot.bucket] += 1;
        }
        Self {
            group: Arc::clone(&parallel.group),
            exchange: match parallel.zero {
                true => Exchange::SumParts,
                false => Exchange::Sum,
            },
            overlap: parallel.overlap,
            slots: plan.slots.iter().map(|slot| slot.bucket).collect(),
            state: Mutex::new(State {
                buckets: parallel.buckets.shallow_clone(),
                missing,
                arrived: vec![false; plan.slots.len()],
                used: vec![false; plan.slots.len()],
                last: false,
                started: Vec::new(),
            }),
        }
    }

    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, TrainError> {
        let broken = |_| TrainError::Ranks("an exchange of gradients has broken off".into());
        self.state.lock().map_err(broken)
    }

    /// A part of the step begins.
    fn begin(&self, last: bool) {
        if let Ok(mut state) = self.state() {
            state.last = last;
            state.arrived.fill(false);
        }
    }

    /// The gradient of a parameter is queued; buckets that are full now start, in order.
    fn arrived(&self, index: usize) -> Result<(), TrainError> {
        let mut state = self.state()?;
        state.used[index] = true;
        if std::mem::replace(&mut state.arrived[index], true) || !state.last {
            return Ok(());
        }
        state.missing[self.slots[index]] -= 1;
        while self.overlap
            && state.started.len() < state.buckets.len()
            && state.missing[state.started.len()] == 0
        {
            self.start(&mut state)?;
        }
        Ok(())
    }

    /// Starts the next bucket: all ranks do so in the same order.
    fn start(&self, state: &mut State) -> Result<(), TrainError> {
        let bucket = &state.buckets[state.started.len()];
        let pending = self.group.start(self.exchange, bucket)?;
        state.started.push(pending);
        Ok(())
    }

    /// Starts what is left and waits for all; returns the parameters that have a gradient.
    fn finish(&self) -> Result<Vec<bool>, TrainError> {
        let mut state = self.state()?;
        while state.started.len() < state.buckets.len() {
            self.start(&mut state)?;
        }
        std::mem::take(&mut state.started)
            .into_iter()
            .try_for_each(Pending::wait)?;
        Ok(std::mem::take(&mut state.used))
    }
}

/// What the ranks' losses have in common: their targets and the statistics of the routers.
#[derive(Debug)]
pub struct Totals {
    group: Arc<dyn Collective>,
    /// Targets of the step on this rank.
    scored: u64,
    /// Targets of the step on all ranks: an fp64 scalar.
    all: Option<Tensor>,
}

impl Totals {
    fn new(scored: u64, group: Arc<dyn Collective>) -> Self {
        Self {
            group,
            scored,
            all: None,
        }
    }

    /// Sums a list of numbers over all ranks, on their device: fp64 `[count]`. With the first
    /// list go the targets. Returns the sums and the number of targets of the step.
    ///
    /// # Errors
    ///
    /// The ranks cannot be reached.
    pub fn sum(&mut self, values: &[Tensor]) -> Result<(Tensor, Tensor), TrainError> {
        let device = self.group.device();
        let mut list: Vec<Tensor> = values
            .iter()
            .map(|value| value.detach().to_kind(Kind::Double))
            .collect();
        list.push(Tensor::full([], self.scored as f64, (Kind::Double, device)));
        let sums = Tensor::stack(&list, 0);
        self.group.start(Exchange::Sum, &sums)?.wait()?;
        let count = values.len() as i64;
        let all = match &self.all {
            Some(all) => all.shallow_clone(),
            None => sums.get(count),
        };
        self.all = Some(all.shallow_clone());
        Ok((sums.narrow(0, 0, count), all))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use cistron_genome::corpus::Corpus;
    use tch::Device;

    use crate::collective::{Alone, Collective};
    use crate::config::RunConfig;
    use crate::loader::Loader;
    use crate::testing::{self, on_ranks};
    use crate::trainer::{StepReport, Trainer};
    use std::sync::Arc;

    /// The weights after some steps, and what the steps did.
    type Trained = (BTreeMap<String, Vec<f32>>, Vec<StepReport>);

    fn train(corpus: &Corpus, sets: &[&str], group: Arc<dyn Collective>, overlap: bool) -> Trained {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let config = RunConfig::parse(testing::TINY, Path::new("tiny.toml"), &sets).unwrap();
        let (alphabet, seed) = (config.model.alphabet(), config.train.seed);
        let loader = Loader::new(corpus, &config.data, alphabet, seed, Device::Cpu).unwrap();
        let mut trainer = Trainer::new(&config, Device::Cpu).unwrap();
        // Many buckets, so that their order matters.
        trainer.join_with(group, overlap, 2000).unwrap();
        let reports = (0..4)
            .map(|_| trainer.step(&loader, &|| None).unwrap())
            .collect();
        let values = |tensor: &tch::Tensor| Vec::try_from(tensor.detach().flatten(0, -1)).unwrap();
        let params = trainer.model.params().iter();
        let weights = params.map(|(name, param)| (name.to_owned(), values(&param.tensor)));
        (weights.collect(), reports)
    }

    struct Bench {
        _folder: tempfile::TempDir,
        corpus: std::path::PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            // Products with one thread give the same bits in all threads of the test.
            tch::set_num_threads(1);
            let folder = tempfile::tempdir().unwrap();
            let corpus = testing::corpus(folder.path());
            Self {
                _folder: folder,
                corpus,
            }
        }

        fn alone(&self, sets: &[&str]) -> Trained {
            train(
                &Corpus::open(&self.corpus).unwrap(),
                sets,
                Alone::group(),
                true,
            )
        }

        fn ranks(&self, world: usize, sets: &[&str], overlap: bool) -> Vec<Trained> {
            on_ranks(world, |group| {
                train(&Corpus::open(&self.corpus).unwrap(), sets, group, overlap)
            })
        }
    }

    /// Largest difference of any weight.
    fn apart(a: &Trained, b: &Trained) -> f64 {
        let pairs =
            a.0.iter()
                .flat_map(|(name, values)| values.iter().zip(&b.0[name]));
        pairs
            .map(|(x, y)| f64::from((x - y).abs()))
            .fold(0.0, f64::max)
    }

    #[test]
    fn two_ranks_are_one_with_twice_the_batch() {
        let bench = Bench::new();
        let strong = "model.cistron.alpha=0.5";
        let one = bench.alone(&["data.batch=4", strong]);
        let two = bench.ranks(2, &["data.batch=2", strong], true);
        assert_eq!(two[0].0, two[1].0);
        for (a, b) in one.1.iter().zip(&two[0].1) {
            assert_eq!(a.tally.scored, b.tally.scored);
            assert_eq!(a.tally.tokens, b.tally.tokens);
            assert!((a.loss - b.loss).abs() < 2e-5, "{} {}", a.loss, b.loss);
            assert!(
                (a.norm - b.norm).abs() < 1e-4 * a.norm,
                "{} {}",
                a.norm,
                b.norm
            );
        }
        assert!(apart(&one, &two[0]) < 1e-3, "{}", apart(&one, &two[0]));
    }

    /// A sum of two has no order: ranks give the bits that batches after each other give.
    #[test]
    fn two_ranks_are_two_batches_bit_for_bit() {
        let bench = Bench::new();
        let plain = ["data.batch=2", "model.cistron.alpha=0"];
        let one = bench.alone(&[
            "data.batch=2",
            "model.cistron.alpha=0",
            "train.accumulate=2",
        ]);
        for overlap in [true, false] {
            let two = bench.ranks(2, &plain, overlap);
            assert_eq!(one.0, two[0].0);
            assert_eq!(one.0, two[1].0);
        }
    }

    #[test]
    fn a_sharded_optimizer_takes_the_steps_of_a_whole_one() {
        let bench = Bench::new();
        for world in [2, 3] {
            let sets = ["train.accumulate=2", "optimizer.clip=0"];
            let whole = bench.ranks(world, &sets, true);
            let sharded = bench.ranks(world, &[sets[0], sets[1], "train.zero=true"], true);
            for rank in &sharded {
                assert_eq!(whole[0].0, rank.0);
                assert!((whole[0].1[3].norm - rank.1[3].norm).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn clipping_sees_the_norm_of_all_parts() {
        let bench = Bench::new();
        let whole = bench.ranks(2, &["optimizer.clip=0.01"], true);
        let sharded = bench.ranks(2, &["optimizer.clip=0.01", "train.zero=true"], true);
        assert!(apart(&whole[0], &sharded[0]) < 1e-5);
    }

    #[test]
    fn ranks_with_other_weights_are_refused() {
        let bench = Bench::new();
        let refused = on_ranks(2, |group| {
            let seed = format!("train.seed={}", group.rank());
            let config = RunConfig::parse(testing::TINY, Path::new("tiny.toml"), &[seed]).unwrap();
            let mut trainer = Trainer::new(&config, Device::Cpu).unwrap();
            super::same_weights(&trainer.model, &*group).map_err(|error| error.to_string())?;
            let _ = trainer.join(Alone::group(), true);
            Ok::<_, String>(())
        });
        drop(bench);
        assert!(refused[0].is_ok());
        let error = refused[1].as_ref().unwrap_err();
        assert!(error.starts_with("rank 1 has other weights"), "{error}");
    }
}
