//! Decoding: one token of every sequence at a time, with carried states.

use cistron_kernels::runtime;
use cistron_model::decode::Decoder;
use cistron_model::{Compute, Config, HNet};
use serde::Serialize;

use crate::error::BenchError;
use crate::nucleotides;
use crate::timing::{Clock, Times};

/// What to decode.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// The model.
    pub config: Config,
    /// How it computes.
    pub compute: Compute,
    /// Sequences at once; one result a number.
    pub batches: Vec<i64>,
    /// Tokens that each sequence has had before.
    pub prompt: i64,
    /// Steps of a run.
    pub steps: i64,
    /// Launch every operator instead of replaying a recording.
    pub without_graph: bool,
}

/// How fast one batch was.
#[derive(Debug, Clone, Serialize)]
pub struct DecodeResult {
    /// Parameters of the model.
    pub parameters: u64,
    /// Sequences at once.
    pub batch: i64,
    /// Tokens that each sequence had had before.
    pub prompt: i64,
    /// Seconds of a step.
    pub seconds: Times,
    /// Tokens a second of all sequences together.
    pub tokens_per_second: f64,
    /// Bytes of the states of all sequences.
    pub state_bytes: u64,
    /// State bytes a second, when every step reads and writes all of them. Stages between
    /// whose chunks a step falls leave theirs, so the true traffic is less.
    pub state_bytes_per_second: f64,
    /// Bytes of weights, each of which a step reads once.
    pub weight_bytes: u64,
    /// Bytes of states (twice) and weights a second.
    pub bytes_per_second: f64,
    /// Whether steps were replayed from a recording; if not, why, where one was tried.
    pub graph: String,
    /// The most bytes that tensors held, on a GPU.
    pub peak_bytes: Option<u64>,
}

/// Measures steps on random nucleotides for each number of sequences.
///
/// # Errors
///
/// The model cannot be built.
pub fn decode(
    options: &DecodeOptions,
    clock: &Clock,
    tell: &mut dyn FnMut(&DecodeResult),
) -> Result<Vec<DecodeResult>, BenchError> {
    let _guard = tch::no_grad_guard();
    let config = &options.config;
    let model = HNet::new(config, 0, clock.device)?.for_inference(options.compute.precision);
    let weight_bytes = model
        .params()
        .iter()
        .map(|(_, param)| (param.tensor.numel() * param.tensor.kind().elt_size_in_bytes()) as u64)
        .sum();
    let mut results = Vec::new();
    for &batch in &options.batches {
        let prompt = nucleotides(batch * options.prompt, config, clock.device);
        let lengths = vec![options.prompt; batch as usize];
        runtime::peak_memory(clock.device, true);
        let (_, state) = model.forward_from(&prompt, &lengths, None);
        let state_bytes = state.bytes();
        let runs = (clock.repeat + clock.warmup + 2) as i64;
        let mut decoder = Decoder::new(&model, &state, (runs * options.steps) as usize);
        if options.without_graph {
            decoder = decoder.without_graph();
        }
        let tokens = nucleotides(batch * options.steps, config, clock.device);
        let tokens = tokens.reshape([options.steps, batch]);
        let mut run = || {
            for step in 0..options.steps {
                let _ = decoder.step(&tokens.get(step));
            }
        };
        // The recording, where there is one, is made in the first step.
        run();
        let all = clock.time(&mut run);
        let each = |seconds: f64| seconds / options.steps as f64;
        let seconds = Times {
            median: each(all.median),
            least: each(all.least),
            most: each(all.most),
        };
        let graph = match (options.without_graph, decoder.graph_problem()) {
            (true, _) => "not asked for".to_owned(),
            (false, Some(problem)) => problem.to_owned(),
            (false, None) if clock.device.is_cuda() => "replayed".to_owned(),
            (false, None) => "none on the CPU".to_owned(),
        };
        let result = DecodeResult {
            parameters: model.params().count(),
            batch,
            prompt: options.prompt,
            seconds,
            tokens_per_second: batch as f64 / seconds.median,
            state_bytes,
            state_bytes_per_second: 2.0 * state_bytes as f64 / seconds.median,
            weight_bytes,
            bytes_per_second: (2 * state_bytes + weight_bytes) as f64 / seconds.median,
            graph,
            peak_bytes: runtime::peak_memory(clock.device, false),
        };
        tell(&result);
        results.push(result);
    }
    Ok(results)
}
