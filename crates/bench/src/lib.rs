//! Measurements: how fast models train, read and write, and how near single operators
//! come to what the machine can do.
//!
//! Every figure is the median of several runs between two synchronisations of the device,
//! after runs that are not counted. Ceilings are measured beside it: a large copy within
//! device memory, and a large matrix product.
//!
//! A ladder of training runs ([`climb`]) measures how the loss falls with compute.

mod ceiling;
mod corpus;
mod decode;
mod error;
mod fit;
mod infer;
mod ops;
mod preset;
mod ranks;
mod scaling;
mod timing;
mod trace;
mod train;

pub use ceiling::Ceiling;
pub use corpus::{CorpusOptions, CorpusResult, corpus};
pub use decode::{DecodeOptions, DecodeResult, decode};
pub use error::BenchError;
pub use fit::Fit;
pub use infer::{InferOptions, InferResult, infer};
pub use ops::{OpResult, OpShape, names as op_names, ops};
pub use preset::{NAMES as PRESETS, preset};
pub use ranks::{AllReduce, Case, CaseResult, RanksOptions, RanksResult, Scaling, Schedule, ranks};
pub use scaling::{Ladder, Rung, RungResult, SeriesFit, climb, fits, settings};
pub use timing::{Clock, Times};
pub use trace::Busy;
pub use train::{TrainOptions, TrainResult, train};

use tch::{Device, Kind, Tensor};

/// Bases A, C, G and T, each as likely, as tokens of `alphabet`: i64 `[count]`.
fn nucleotides(count: i64, config: &cistron_model::Config, device: Device) -> Tensor {
    let alphabet = config.alphabet();
    let codes = [b'A', b'C', b'G', b'T'].map(|base| i64::from(alphabet.encode(base)));
    let bases = Tensor::randint(4, [count], (Kind::Int64, device));
    Tensor::from_slice(&codes)
        .to_device(device)
        .index_select(0, &bases)
}

/// Share of the tokens of each routed stage that started a chunk.
fn selection(output: &cistron_model::Output) -> Vec<f64> {
    let share = |routing: &cistron_model::Routing| {
        let tokens: i64 = routing.lengths.iter().sum();
        routing.chunks.iter().sum::<i64>() as f64 / tokens.max(1) as f64
    };
    output.routing.iter().map(share).collect()
}

/// Operations of a forward pass over a sequence of `length` tokens at these shares of chunks.
fn operations(config: &cistron_model::Config, selection: &[f64], length: i64) -> f64 {
    let mut config = config.clone();
    config.cistron.ratio = selection
        .iter()
        .map(|share| 1.0 / share.max(1e-9))
        .collect();
    cistron_train::flops::forward(&config, length as u64)
}
