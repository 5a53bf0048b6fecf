//! What can go wrong in a training run.

use std::path::{Path, PathBuf};

use cistron_model::ModelError;

/// An error of the configuration, the data, the run folder or the training itself.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration key is unknown, of the wrong type or out of range.
    #[error("{origin}: {key}: {problem}")]
    Config {
        /// The file with its line, or the `--set` argument.
        origin: String,
        /// The dotted key.
        key: String,
        /// What was found and what is expected.
        problem: String,
    },
    /// The configuration is not TOML, or a `--set` argument has no `=`.
    #[error("{origin}: {problem}")]
    Syntax {
        /// The file with its line, or the `--set` argument.
        origin: String,
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
    /// The run folder is not fit for what was asked.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The run folder or a part of it.
        path: PathBuf,
        /// What was found and which option mends it.
        problem: String,
    },
    /// A checkpoint is damaged or of another model.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint folder.
        path: PathBuf,
        /// What was found and what is expected.
        problem: String,
    },
    /// A checkpoint could not be written; those before it are intact.
    #[error(
        "checkpoint {} could not be written: {source}; free some space and continue with \
         --resume auto from {}",
        path.display(),
        last.as_ref().map_or("the beginning".to_owned(), |last| last.display().to_string())
    )]
    Unwritten {
        /// The checkpoint folder that was to be.
        path: PathBuf,
        /// The last complete checkpoint.
        last: Option<PathBuf>,
        /// Why.
        source: Box<TrainError>,
    },
    /// The corpus has nothing to train on.
    #[error("corpus {}: {problem}", path.display())]
    Data {
        /// The corpus folder.
        path: PathBuf,
        /// What was found and what is expected.
        problem: String,
    },
    /// The loss or the gradient is no longer a number, or the gradient has exploded.
    #[error(
        "step {step}: the {what} is {value}{}; the weights were not changed by this step. {} \
         Try a lower optimizer.lr, a longer schedule.warmup_steps or a smaller optimizer.clip, \
         and continue from {}",
        usual.map_or(String::new(), |usual| format!(", where {usual:.3} is usual")),
        culprit,
        last.as_ref().map_or("the beginning".to_owned(), |last| last.display().to_string())
    )]
    Unstable {
        /// Step that was being taken, the first being 1.
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// NaN, an infinity, or a large number.
        value: f64,
        /// Its running mean, when it is a number.
        usual: Option<f64>,
        /// A sentence that names the tensor where it shows.
        culprit: String,
        /// The last complete checkpoint.
        last: Option<PathBuf>,
    },
    /// Ranks cannot be started, do not find each other, or are lost.
    #[error("{0}")]
    Ranks(String),
    /// The corpus cannot be read.
    #[error(transparent)]
    Corpus(#[from] cistron_genome::corpus::CorpusError),
    /// The model cannot be built, read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A plot cannot be drawn.
    #[error(transparent)]
    Report(#[from] cistron_report::ReportError),
}

impl TrainError {
    /// The same, said by this rank.
    pub(crate) fn on(self, rank: u64) -> Self {
        let text = self.to_string();
        let own = format!("rank {rank}");
        match text.starts_with(&own) {
            true => Self::Ranks(text),
            false => Self::Ranks(format!("{own}: {text}")),
        }
    }

    /// Names the last complete checkpoint, where the error tells of one.
    #[must_use]
    pub(crate) fn after(mut self, checkpoint: Option<&Path>) -> Self {
        if let Self::Unstable { last, .. } = &mut self {
            *last = checkpoint.map(Path::to_owned);
        }
        self
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn folder(path: &Path, problem: impl Into<String>) -> Self {
        Self::Folder {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
