//! Training: forwards, loss and backwards, without the optimizer.

use cistron_kernels::runtime;
use cistron_model::{Compute, Config, HNet};
use cistron_train::batch::Batch;
use cistron_train::loss::Loss;
use serde::Serialize;
use tch::Tensor;

use crate::error::BenchError;
use crate::timing::{Clock, Times};
use crate::{nucleotides, operations, selection};

/// What to train.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// The model.
    pub config: Config,
    /// How it computes.
    pub compute: Compute,
    /// Sequences in a batch.
    pub batch: i64,
    /// Tokens of each.
    pub length: i64,
}

/// How fast it was.
#[derive(Debug, Clone, Serialize)]
pub struct TrainResult {
    /// Parameters of the model.
    pub parameters: u64,
    /// Sequences in a batch.
    pub batch: i64,
    /// Tokens of each.
    pub length: i64,
    /// Share of the tokens of each routed stage that started a chunk.
    pub selection: Vec<f64>,
    /// Seconds of a forward and backward pass.
    pub seconds: Times,
    /// Seconds of the forward pass with the loss, alone.
    pub forward_seconds: Times,
    /// Tokens a second, forwards and backwards.
    pub tokens_per_second: f64,
    /// Counted operations a second; the backward pass counts twice the forward pass.
    pub flops_per_second: f64,
    /// The most bytes that tensors held, on a GPU.
    pub peak_bytes: Option<u64>,
    /// The loss, as a check: nats a base.
    pub loss: f64,
}

/// Measures training on random nucleotides.
///
/// # Errors
///
/// The model cannot be built, or memory runs out.
pub fn train(options: &TrainOptions, clock: &Clock) -> Result<TrainResult, BenchError> {
    let TrainOptions {
        config,
        compute,
        batch,
        length,
    } = options;
    let model = HNet::new(config, 0, clock.device)?.with_compute(compute.clone());
    let tokens = nucleotides(batch * length, config, clock.device);
    let targets = tokens.roll([-1], [0]);
    let lengths = vec![*length; *batch as usize];
    let batch = Batch::new(tokens, targets, lengths, (batch * length) as u64);
    let mut shares = Vec::new();
    let mut nats = Tensor::new();
    let mut problem = None;
    let mut forward = |model: &HNet| {
        let output = model.forward(&batch.tokens, &batch.lengths);
        let loss = Loss::of(&output, &batch, config);
        shares = selection(&output);
        nats = loss.nats.detach();
        loss.nats * (1.0 / batch.scored as f64) + loss.ratio
    };
    let forward_seconds = clock.time(|| drop(forward(&model)));
    runtime::peak_memory(clock.device, true);
    let seconds = clock.time(|| {
        // Fresh leaves: their gradients are written, not added to older ones.
        let model = model.leaves();
        if let Err(error) = forward(&model).f_backward() {
            problem.get_or_insert(error);
        }
    });
    if let Some(error) = problem {
        return Err(BenchError::torch("bench train", &error));
    }
    let tokens = batch.scored as f64;
    let work = 3.0 * operations(config, &shares, *length) * batch.lengths.len() as f64;
    Ok(TrainResult {
        parameters: model.params().count(),
        batch: batch.lengths.len() as i64,
        length: *length,
        seconds,
        forward_seconds,
        tokens_per_second: tokens / seconds.median,
        flops_per_second: work / seconds.median,
        peak_bytes: runtime::peak_memory(clock.device, false),
        loss: nats.double_value(&[]) / tokens,
        selection: shares,
    })
}
