//! Pretraining: loss, optimizer, schedule, loader, checkpoints and the run folder.
//!
//! [`pretrain()`] does a whole run; [`plan()`] says what it would be. The parts:
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the TOML configuration and its schedules |
//! | [`sampler`], [`loader`], [`batch`] | from seed and step to tokens |
//! | [`loss`], [`gradients`], [`adamw`], [`average`] | from tokens to weights |
//! | [`long_range`] | the states that windows begin from |
//! | [`trainer`] | one optimizer step |
//! | [`collective`], [`buckets`], [`parallel`], [`launch`] | the same on several ranks |
//! | [`folder`], [`checkpoint`], [`metrics`], [`events`] | what a run leaves behind |

pub mod adamw;
pub mod average;
pub mod batch;
pub mod buckets;
mod card;
pub mod checkpoint;
pub mod collective;
pub mod config;
mod environment;
mod error;
pub mod evaluate;
pub mod events;
pub mod flops;
pub mod folder;
pub mod gradients;
pub mod launch;
pub mod loader;
pub mod long_range;
pub mod loss;
pub mod metrics;
mod muon;
pub mod parallel;
mod plan;
mod plot;
mod pretrain;
mod report;
mod resume;
mod run;
pub mod sampler;
mod sanity;
mod schedule;
mod signals;
#[cfg(test)]
mod testing;
pub mod trainer;
pub mod workers;

pub use config::RunConfig;
pub use error::TrainError;
pub use plan::{Plan, plan};
pub use pretrain::{Outcome, PretrainOptions, pretrain};
pub use resume::Resume;
