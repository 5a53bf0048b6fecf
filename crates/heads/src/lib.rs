//! Lyra heads: fitness, classes and labels from a table of sequences, in minutes.
//!
//! ```text
//! table --Dataset--> letters, targets, decisions --folds--> train, validation, test
//!       --run--> networks and baselines side by side --> head.json, members/, metrics.json, plots
//! head  --predict, epistasis, rank--> tables
//! ```

pub mod alphabet;
pub mod baseline;
pub mod dataset;
pub mod embed;
pub mod epistasis;
pub mod error;
pub mod folder;
pub mod folds;
pub mod metrics;
pub mod mutant;
pub mod network;
pub mod optimizer;
pub mod plots;
pub mod predict;
pub mod rank;
pub mod ridge;
pub mod run;
pub mod scale;
pub mod tables;
pub mod trainer;
pub mod view;

pub use dataset::{Columns, Dataset, Task};
pub use error::HeadError;
pub use folder::Head;
