//! Where a run continues.

use std::fs;
use std::path::{Path, PathBuf};

use crate::TrainError;

/// What to do with earlier training.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Resume {
    /// Start anew; an existing run folder is an error.
    #[default]
    Never,
    /// Continue from the newest checkpoint of the run folder, or start where there is none.
    Auto,
    /// Continue from this checkpoint, or from the newest one of this run folder.
    From(PathBuf),
}

impl std::str::FromStr for Resume {
    type Err = std::convert::Infallible;

    /// `auto`, `never`, or else a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            path => Self::From(path.into()),
        })
    }
}

/// What lies in a folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let fail = |error| TrainError::io(folder, error);
    fs::read_dir(folder)
        .map_err(fail)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(fail))
        .collect()
}

/// Finished checkpoints with their steps, oldest first.
pub(crate) fn checkpoints(folder: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let step = |path: &PathBuf| -> Option<u64> {
        path.file_name()?
            .to_str()?
            .strip_prefix("step-")?
            .parse()
            .ok()
    };
    let mut found: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter_map(|path| Some((step(&path)?, path)))
        .collect();
    found.sort();
    Ok(found)
}

/// The checkpoint that `latest` names, else the one with most steps.
pub(crate) fn newest(run: &Path) -> Result<Option<PathBuf>, TrainError> {
    let named = fs::read_to_string(run.join("latest")).unwrap_or_default();
    let named = run.join(named.trim());
    if named != run.join("") && named.is_dir() {
        return Ok(Some(named));
    }
    Ok(checkpoints(&run.join("checkpoints"))?
        .pop()
        .map(|(_, path)| path))
}

/// A checkpoint folder as it is, or the newest one of a run folder.
pub(crate) fn explicit(path: &Path) -> Result<PathBuf, TrainError> {
    if path.join(crate::checkpoint::STATE).is_file() {
        return Ok(path.to_owned());
    }
    let found = if path.is_dir() { newest(path)? } else { None };
    found.ok_or_else(|| {
        TrainError::folder(
            path,
            "--resume: neither a checkpoint (a folder with state.json) nor a run folder that has one",
        )
    })
}
