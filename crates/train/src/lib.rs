//! Pretraining: loss, optimizer, schedule, loader, checkpoints and the run folder.

pub mod adamw;
pub mod average;
pub mod batch;
pub mod collective;
pub mod config;
mod error;
pub mod evaluate;
pub mod gradients;
pub mod loader;
pub mod loss;
pub mod sampler;
mod schedule;
#[cfg(test)]
mod testing;
pub mod trainer;

pub use config::RunConfig;
pub use error::TrainError;
