//! Uses of a trained model: likelihoods, evaluation, variant scores, chunk
//! boundaries, and the baselines printed beside them.

pub mod boundaries;
pub mod difference;
pub mod dms;
pub mod engine;
pub mod error;
pub mod genes;
pub mod length;
pub mod lm;
pub mod markov;
pub mod metrics;
pub mod regions;
pub mod relatives;
pub mod saturate;
pub mod survey;
pub mod vcf;

pub use engine::Engine;
pub use error::ScoreError;
