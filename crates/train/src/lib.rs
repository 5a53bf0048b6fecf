//! Pretraining: loss, optimizer, schedule, loader, checkpoints and the run folder.

pub mod config;
mod error;
mod schedule;

pub use error::TrainError;
