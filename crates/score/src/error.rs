//! What can go wrong while scoring.

/// An error of a scoring run.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The model gave a value that is no number.
    #[error(
        "the model's log-likelihood of base {base} in a window of {length} is {value}; the model \
         is broken or the device miscalculates (see `cistron selftest`, or try --device cpu)"
    )]
    NotFinite {
        /// Base of the window that was read, from 1.
        base: usize,
        /// Bases of that window.
        length: usize,
        /// What came instead.
        value: f32,
    },
    /// The run was asked to stop.
    #[error("stopped before the end; no unfinished file is left")]
    Stopped,
    /// The worker threads could not be started.
    #[error("cannot start {threads} worker threads: {reason}; use fewer with --threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The system's reason.
        reason: String,
    },
    /// The VCF could not be read.
    #[error(transparent)]
    Vcf(#[from] cistron_variant::vcf::VcfError),
    /// The reference does not fit the VCF.
    #[error(transparent)]
    Mismatch(#[from] cistron_variant::mismatch::MismatchError),
    /// A score could not be put into a record.
    #[error(transparent)]
    Annotate(#[from] cistron_variant::annotate::AnnotateError),
    /// The VCF could not be written.
    #[error(transparent)]
    Write(#[from] cistron_variant::writer::WriteError),
    /// Whoever was shown the scores failed.
    #[error(transparent)]
    Visit(Box<dyn std::error::Error + Send + Sync>),
    /// There is nothing that an evaluation could count.
    #[error(
        "{file}: no A, C, G or T to evaluate; leave it out, or check that it is the right file"
    )]
    NoBases {
        /// The genome.
        file: String,
    },
    /// What was read cannot be kept.
    #[error("the temporary file of the tracks: {0}")]
    Spool(#[from] std::io::Error),
    /// A setting is outside its range.
    #[error("{0}")]
    Setting(String),
}
