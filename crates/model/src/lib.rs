//! Hierarchical genome language models.
//!
//! [`HNet`] is a byte- or base-level language model with any number of learned
//! chunking stages (H-Net, Hwang et al. 2025, arXiv 2507.07955). It runs in
//! three equal forms: over a packed batch ([`HNet::forward`]), over a piece of it
//! with carried [`State`] ([`HNet::forward_from`]), and one token at a time
//! ([`HNet::step`]).

pub mod arch;
pub mod checkpoint;
mod compute;
pub mod config;
pub mod decode;
pub mod error;
pub mod generate;
pub mod golden;
pub mod hnet;
pub mod inspect;
mod isotropic;
pub mod loss;
pub mod lyra;
pub mod mixer;
pub mod params;
mod routing;
mod rule;
pub mod state;

pub use cistron_kernels::{Layout, Packed};
pub use compute::{Checkpointing, Compute, Every, Precision};
pub use config::{Chunking, Config, Numerics};
pub use error::ModelError;
pub use hnet::{HNet, Output};
pub use loss::{RatioStatistics, ratio_loss};
pub use params::{Param, Params};
pub use routing::Routing;
pub use state::State;
