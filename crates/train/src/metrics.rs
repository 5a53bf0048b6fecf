//! `metrics.jsonl`: one JSON object a line, for every step and every evaluation.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cistron_model::checkpoint::write_atomically;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::loss::StageRatio;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A training step.
    Train(TrainRecord),
    /// An evaluation on the validation genomes.
    Eval(EvalRecord),
}

/// A training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Steps taken, with this one.
    pub step: u64,
    /// Cross-entropy in nats plus the weighed ratio losses.
    pub loss: f64,
    /// Cross-entropy in bits a base.
    pub bits_per_base: f64,
    /// F and G of each routed stage, outermost first.
    pub stages: Vec<StageRatio>,
    /// Base learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens seen so far.
    pub tokens: u64,
    /// Floating-point operations so far, forwards and backwards, at the numbers of chunks
    /// that were made.
    #[serde(default)]
    pub flops: f64,
    /// Throughput of this step.
    pub tokens_per_second: f64,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Steps taken.
    pub step: u64,
    /// Cross-entropy in bits a base.
    pub bits_per_base: f64,
    /// F and G of each routed stage, outermost first.
    pub stages: Vec<StageRatio>,
    /// Targets scored.
    pub bases: u64,
    /// Whether the averaged weights were evaluated.
    pub ema: bool,
    /// Seconds of training so far.
    pub seconds: f64,
}

impl Record {
    /// Steps taken.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(record) => record.step,
            Self::Eval(record) => record.step,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the file for a run that stands at `step`: later lines are dropped, so that no
    /// step is there twice.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let fail = |error| TrainError::io(path, error);
        if path.exists() {
            let mut kept = String::new();
            for record in read(path)?.iter().filter(|record| record.step() <= step) {
                kept.push_str(&line(record));
            }
            write_atomically(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<(), TrainError> {
        self.file
            .write_all(line(record).as_bytes())
            .map_err(|error| TrainError::io(&self.path, error))
    }
}

fn line(record: &Record) -> String {
    let mut line = serde_json::to_string(record).expect("a record has a JSON form");
    line.push('\n');
    line
}

/// Reads all complete lines of a `metrics.jsonl`.
///
/// # Errors
///
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Record>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|error| TrainError::io(path, error))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64) -> Record {
        Record::Train(TrainRecord {
            step,
            loss: 1.25,
            bits_per_base: 0.1 + 0.2,
            stages: vec![StageRatio {
                selected: 0.5,
                probability: 0.25,
            }],
            lr: 1e-3,
            grad_norm: 2.0,
            tokens: 10,
            flops: 100.0,
            tokens_per_second: 5.0,
            seconds: 1.5,
        })
    }

    fn eval(step: u64) -> Record {
        Record::Eval(EvalRecord {
            step,
            bits_per_base: 1.9,
            stages: Vec::new(),
            bases: 96,
            ema: false,
            seconds: 2.0,
        })
    }

    #[test]
    fn resuming_drops_later_and_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for record in [train(1), train(2), eval(2), train(3), eval(3)] {
            log.write(&record).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"train","step":1,"loss":1.25,"#),
            "{text}"
        );
        assert!(text.contains(r#""stages":[{"F":0.5,"G":0.25}]"#), "{text}");
        std::fs::write(&path, format!("{text}{{\"kind\":\"tra")).unwrap();
        let mut log = MetricsLog::open(&path, 2).unwrap();
        log.write(&train(3)).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [train(1), train(2), eval(2), train(3)]
        );
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let file = OpenOptions::new().write(true).open(full).unwrap();
        let mut log = MetricsLog {
            path: full.to_owned(),
            file,
        };
        let error = log.write(&train(1)).unwrap_err().to_string();
        assert!(error.starts_with("/dev/full: "), "{error}");
    }
}
