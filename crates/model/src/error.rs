//! What can go wrong with a model.

use std::path::PathBuf;

/// An error of configuration, parameters or files of a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration contradicts itself or asks for what does not exist.
    #[error("model config: {key}: {problem}")]
    Config {
        /// The key at fault, e.g. `arch_layout`.
        key: String,
        /// What was found and what is expected.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {}", path.display(), cistron_genome::system::reason(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        problem: String,
    },
    /// A tensor is absent, unknown or of another shape than the config says.
    #[error("{}: tensor '{name}': {problem}", path.display())]
    Tensor {
        /// The file, or `parameters` for tensors in memory.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What was found and what is expected.
        problem: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl ModelError {
    pub(crate) fn config(key: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn format(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
