//! What can go wrong with a measurement.

use tch::TchError;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// libtorch refused; most often the memory of the device is too small.
    #[error("{what}: {reason}; if memory ran out, try a smaller batch or length")]
    Torch {
        /// What was measured.
        what: String,
        /// The first line of libtorch's message.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// A training step or run failed, a corpus cannot be read, or ranks are lost.
    #[error(transparent)]
    Train(#[from] cistron_train::TrainError),
    /// The model cannot be built.
    #[error(transparent)]
    Model(#[from] cistron_model::ModelError),
}

impl BenchError {
    /// Names what was measured.
    pub(crate) fn torch(what: impl Into<String>, error: &TchError) -> Self {
        let message = error.to_string();
        Self::Torch {
            what: what.into(),
            reason: message.lines().next().unwrap_or_default().to_owned(),
        }
    }
}
