//! The batches of one step, forwards and backwards.
//!
//! On the CPU the batches that are accumulated for a step run side by side, one thread
//! each: they meet once a step, where the threads of a single operation would meet some
//! thousand times. Each batch has gradients of its own, and these are added in the order
//! of the batches, so that the number of threads changes nothing.

use std::collections::BTreeMap;

use cistron_model::{HNet, ModelError, State};
use rayon::prelude::*;
use tch::{Device, Tensor};

use crate::TrainError;
use crate::batch::Batch;
use crate::long_range::after_rows;
use crate::loss::{Counted, Loss};
use crate::parallel::{Ran, Totals};

/// Gradients by the name of their parameter; parameters that were not used have none.
pub type Gradients = BTreeMap<String, Tensor>;

/// What each batch's losses are multiplied by.
#[derive(Debug, Clone, Copy)]
pub struct Weights {
    /// Of the cross-entropy, a sum over targets.
    pub nats: f64,
    /// Of the ratio losses.
    pub ratio: f64,
}

/// Threads for the batches of a step.
#[derive(Debug)]
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// Workers for `batches` batches a step. With several on the CPU libtorch gets one
    /// thread an operation, for the whole process.
    pub fn new(batches: u64, device: Device) -> Self {
        if batches < 2 || device != Device::Cpu {
            return Self { pool: None };
        }
        let threads = tch::get_num_threads().clamp(1, batches as i32) as usize;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("train-{i}"))
            .build();
        if pool.is_ok() {
            tch::set_num_threads(1);
        }
        Self { pool: pool.ok() }
    }

    /// Runs all batches on leaves of their own.
    ///
    /// # Errors
    ///
    /// libtorch refuses an operation.
    pub fn run(
        &self,
        model: &HNet,
        batches: Vec<Batch>,
        weights: Weights,
    ) -> Result<Ran, TrainError> {
        // Each batch has leaves of its own, made here: a model cannot be shared by threads.
        let jobs: Vec<(HNet, Batch)> = batches
            .into_iter()
            .map(|batch| (model.leaves(), batch))
            .collect();
        let job = |(model, batch): (HNet, Batch)| one(&model, &batch, weights);
        let done: Vec<_> = match &self.pool {
            Some(pool) => pool.install(|| jobs.into_par_iter().with_max_len(1).map(job).collect()),
            None => jobs.into_iter().map(job).collect(),
        };
        let mut sum = Gradients::new();
        let mut counts = Vec::new();
        let mut states = Vec::new();
        for part in done {
            let (gradients, counted, state) = part?;
            states.push(state);
            counts.push(counted);
            for (name, gradient) in gradients {
                match sum.entry(name) {
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(gradient);
                    }
                    std::collections::btree_map::Entry::Occupied(mut entry) => {
                        let _ = entry.get_mut().g_add_(&gradient);
                    }
                }
            }
        }
        Ok(Ran {
            gradients: sum,
            counts,
            used: Vec::new(),
            states,
        })
    }
}

/// What one batch has left: what was counted, and the states after its rows where it keeps them.
pub(crate) type Passed = (Counted, Option<State>);

/// A batch forwards and backwards on leaves of its own; gradients stay with them. With
/// `totals` the batch is one rank's part of a greater one.
pub(crate) fn pass(
    leaves: &HNet,
    batch: &Batch,
    weights: Weights,
    totals: Option<&mut Totals>,
) -> Result<Passed, TrainError> {
    let (output, state) = if batch.keep || batch.initial.is_some() {
        let initial = batch.initial.as_ref();
        let (output, state) = leaves.forward_from(&batch.tokens, &batch.lengths, initial);
        let kept = batch.keep.then(|| after_rows(&state, &batch.rows));
        (output, kept)
    } else {
        (leaves.forward(&batch.tokens, &batch.lengths), None)
    };
    let loss = Loss::of(&output, batch, leaves.config());
    drop(output);
    let scalar = match totals {
        None => loss.alone(weights),
        Some(totals) => loss.among(weights, totals)?,
    };
    scalar.f_backward().map_err(ModelError::from)?;
    Ok((loss.counted(), state))
}

type Done = (Gradients, Counted, Option<State>);

fn one(leaves: &HNet, batch: &Batch, weights: Weights) -> Result<Done, TrainError> {
    let (counted, state) = pass(leaves, batch, weights, None)?;
    let gradients = leaves
        .params()
        .iter()
        .map(|(name, param)| (name.to_owned(), param.tensor.grad()))
        .filter(|(_, gradient)| gradient.defined())
        .collect();
    Ok((gradients, counted, state))
}
