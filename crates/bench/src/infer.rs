//! Inference: scores of every token of one or more sequences.

use cistron_kernels::runtime;
use cistron_model::{Compute, Config, HNet, State};
use serde::Serialize;
use tch::Kind;

use crate::error::BenchError;
use crate::timing::{Clock, Times};
use crate::{nucleotides, operations, selection};

/// What to read.
#[derive(Debug, Clone)]
pub struct InferOptions {
    /// The model.
    pub config: Config,
    /// How it computes.
    pub compute: Compute,
    /// Sequences at once.
    pub batch: i64,
    /// Tokens of each; one result a length.
    pub lengths: Vec<i64>,
    /// Read in pieces of this many tokens, with the state carried on; whole when none.
    pub piece: Option<i64>,
}

/// How fast one length was.
#[derive(Debug, Clone, Serialize)]
pub struct InferResult {
    /// Parameters of the model.
    pub parameters: u64,
    /// Sequences at once.
    pub batch: i64,
    /// Tokens of each.
    pub length: i64,
    /// Tokens of a piece, where sequences are read in pieces.
    pub piece: Option<i64>,
    /// Share of the tokens of each routed stage that started a chunk; of the last piece.
    pub selection: Vec<f64>,
    /// Seconds.
    pub seconds: Times,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Counted operations a second.
    pub flops_per_second: f64,
    /// The most bytes that tensors held, with the weights, on a GPU.
    pub peak_bytes: Option<u64>,
    /// Whether all scores are finite.
    pub finite: bool,
}

/// Measures reading random nucleotides at each length; `tell` hears of each result.
///
/// # Errors
///
/// The model cannot be built.
pub fn infer(
    options: &InferOptions,
    clock: &Clock,
    tell: &mut dyn FnMut(&InferResult),
) -> Result<Vec<InferResult>, BenchError> {
    let _guard = tch::no_grad_guard();
    let InferOptions {
        config,
        compute,
        batch,
        ..
    } = options;
    let model = HNet::new(config, 0, clock.device)?
        .for_inference(compute.precision)
        .with_compute(compute.clone());
    let mut results = Vec::new();
    for &length in &options.lengths {
        let tokens = nucleotides(batch * length, config, clock.device).reshape([*batch, length]);
        let piece = options.piece.map_or(length, |piece| piece.clamp(1, length));
        let mut shares = Vec::new();
        let mut finite = true;
        let mut read = |check: bool| {
            let mut state: Option<State> = None;
            for start in (0..length).step_by(piece as usize) {
                let take = piece.min(length - start);
                let part = tokens.narrow(1, start, take).reshape([-1]);
                let lengths = vec![take; *batch as usize];
                let output = if take == length {
                    model.forward(&part, &lengths)
                } else {
                    let (output, next) = model.forward_from(&part, &lengths, state.as_ref());
                    state = Some(next);
                    output
                };
                shares = selection(&output);
                if check {
                    // A sum is not finite when a term is not.
                    finite &= output.logits.sum(Kind::Float).double_value(&[]).is_finite();
                }
            }
        };
        runtime::peak_memory(clock.device, true);
        let seconds = clock.time(|| read(false));
        let peak_bytes = runtime::peak_memory(clock.device, false);
        read(true);
        let work = operations(config, &shares, length) * *batch as f64;
        let result = InferResult {
            parameters: model.params().count(),
            batch: *batch,
            length,
            piece: (piece < length).then_some(piece),
            seconds,
            tokens_per_second: (batch * length) as f64 / seconds.median,
            flops_per_second: work / seconds.median,
            peak_bytes,
            finite,
            selection: shares,
        };
        tell(&result);
        results.push(result);
    }
    Ok(results)
}
