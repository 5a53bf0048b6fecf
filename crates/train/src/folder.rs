//! The run folder.
//!
//! | name | holds |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `command.txt` | one command line for each start |
//! | `env.json` | versions and devices |
//! | `metrics.jsonl` | every step and evaluation |
//! | `events.out.tfevents.*` | the same for TensorBoard |
//! | `plots/loss.svg` | the loss so far |
//! | `checkpoints/step-NNNNNNNN/` | model, optimizer, average and counts |
//! | `latest` | the newest checkpoint, relative to the run folder |
//! | `model/` | the final model, when the run is finished |

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cistron_model::checkpoint::write_atomically;

use crate::TrainError;
use crate::resume::{Resume, checkpoints, entries, explicit, newest};

/// Names of all that a run writes into its folder, event files apart.
const OWN: [&str; 8] = [
    "config.toml",
    "command.txt",
    "env.json",
    "metrics.jsonl",
    "plots",
    "checkpoints",
    "latest",
    "model",
];

/// A run folder that may be written.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder ready; also returns the checkpoint to continue from, if any.
    ///
    /// # Errors
    ///
    /// The folder holds a run and neither `resume` nor `force` says what to do with it,
    /// or holds something else, or there is no checkpoint where one was asked for.
    pub fn prepare(
        path: &Path,
        resume: &Resume,
        force: bool,
    ) -> Result<(Self, Option<PathBuf>), TrainError> {
        let folder = Self {
            path: path.to_owned(),
        };
        let found = folder.contents()?;
        let run = found
            .iter()
            .any(|name| name == "config.toml" || name == "checkpoints");
        if !found.is_empty() && !run {
            return Err(TrainError::folder(
                path,
                "exists and is not a run folder; choose another --out",
            ));
        }
        let checkpoint = match resume {
            Resume::Never if run && !force => {
                return Err(TrainError::folder(
                    path,
                    "holds a run already; continue it with --resume auto, replace it with \
                     --force, or choose another --out",
                ));
            }
            Resume::Never => {
                folder.clear(&found)?;
                None
            }
            Resume::Auto => newest(path)?,
            Resume::From(from) => Some(explicit(from)?),
        };
        let make =
            |path: PathBuf| fs::create_dir_all(&path).map_err(|error| TrainError::io(&path, error));
        make(folder.path.join("checkpoints"))?;
        make(folder.path.join("plots"))?;
        Ok((folder, checkpoint))
    }

    /// The folder as another rank has made it ready.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder within it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Folder of the checkpoint after `step` steps.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path
            .join("checkpoints")
            .join(format!("step-{step:08}"))
    }

    /// Notes a checkpoint of this run as the newest one.
    ///
    /// # Errors
    ///
    /// The pointer cannot be written.
    pub fn set_latest(&self, step: u64) -> Result<(), TrainError> {
        let text = format!("checkpoints/step-{step:08}\n");
        Ok(write_atomically(
            &self.path.join("latest"),
            text.as_bytes(),
        )?)
    }

    /// Removes, of the checkpoints, all but the newest `keep` up to `step`, those after it,
    /// which a run that was taken back to an earlier step leaves, and unfinished ones.
    ///
    /// # Errors
    ///
    /// A folder cannot be removed.
    pub fn prune(&self, step: u64, keep: u64) -> Result<(), TrainError> {
        let folder = self.path.join("checkpoints");
        let all = checkpoints(&folder)?;
        let (done, after): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= step);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let old = done.len().saturating_sub(keep);
        let unneeded = done
            .into_iter()
            .take(old)
            .chain(after)
            .map(|(_, path)| path);
        let unfinished = entries(&folder)?.into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(".step-")
        });
        for path in unneeded.chain(unfinished) {
            fs::remove_dir_all(&path).map_err(|error| TrainError::io(&path, error))?;
        }
        Ok(())
    }

    /// Appends the command line of this start.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn add_command(&self, command: &str) -> Result<(), TrainError> {
        let path = self.path.join("command.txt");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{command}\n").as_bytes()))
            .map_err(|error| TrainError::io(&path, error))
    }

    fn contents(&self) -> Result<Vec<String>, TrainError> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        if !self.path.is_dir() {
            return Err(TrainError::folder(
                &self.path,
                "is a file; choose another --out",
            ));
        }
        let names = entries(&self.path)?.into_iter();
        Ok(names
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    /// Removes what a run has written, and nothing else.
    fn clear(&self, found: &[String]) -> Result<(), TrainError> {
        let own = |name: &String| {
            OWN.contains(&name.as_str()) || name.starts_with("events.out.tfevents.")
        };
        for name in found.iter().filter(|name| own(name)) {
            let path = self.path.join(name);
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|error| TrainError::io(&path, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(path: &Path, resume: Resume, force: bool) -> Result<Option<PathBuf>, String> {
        RunFolder::prepare(path, &resume, force)
            .map(|(_, checkpoint)| checkpoint)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_existing_run_is_neither_overwritten_nor_continued_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        assert_eq!(prepare(&run, Resume::Never, false), Ok(None));
        fs::write(run.join("metrics.jsonl"), "old").unwrap();
        fs::write(run.join("notes.txt"), "mine").unwrap();
        let error = prepare(&run, Resume::Never, false).unwrap_err();
        assert!(
            error.contains("--resume auto") && error.contains("--force"),
            "{error}"
        );
        assert_eq!(prepare(&run, Resume::Auto, false), Ok(None));
        assert!(run.join("metrics.jsonl").exists());
        assert_eq!(prepare(&run, Resume::Never, true), Ok(None));
        assert!(!run.join("metrics.jsonl").exists());
        assert!(run.join("notes.txt").exists());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        for force in [false, true] {
            let error = prepare(folder.path(), Resume::Never, force).unwrap_err();
            assert!(error.contains("not a run folder"), "{error}");
        }
    }

    #[test]
    fn the_pointer_decides_and_pruning_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (run, _) = RunFolder::prepare(folder.path(), &Resume::Never, false).unwrap();
        for step in [2, 4, 10] {
            fs::create_dir(run.checkpoint(step)).unwrap();
        }
        fs::create_dir(run.path().join("checkpoints/.step-00000012.tmp")).unwrap();
        assert_eq!(newest(run.path()).unwrap(), Some(run.checkpoint(10)));
        run.set_latest(4).unwrap();
        assert_eq!(newest(run.path()).unwrap(), Some(run.checkpoint(4)));
        run.prune(10, 2).unwrap();
        assert!(!run.checkpoint(2).exists());
        assert_eq!(entries(&run.path().join("checkpoints")).unwrap().len(), 2);
        fs::create_dir(run.checkpoint(6)).unwrap();
        run.prune(6, 2).unwrap();
        assert!(run.checkpoint(4).exists() && run.checkpoint(6).exists());
        assert!(!run.checkpoint(10).exists());
        let error = prepare(folder.path(), Resume::From("nowhere".into()), false).unwrap_err();
        assert!(error.starts_with("nowhere: --resume"), "{error}");
    }
}
