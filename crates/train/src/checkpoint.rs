//! Checkpoints: a model folder with the optimizer, the average and the counts beside it.
//!
//! A checkpoint is written under another name, synced and renamed, so a folder called
//! `step-NNNNNNNN` is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use cistron_model::checkpoint::{CONFIG, TensorFile, WEIGHTS, read_params, write_atomically};
use cistron_model::{Config, HNet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use crate::TrainError;
use crate::adamw::AdamW;
use crate::average::Average;
use crate::collective::Alone;
use crate::config::RunConfig;
use crate::long_range::Carry;
use crate::trainer::{Counts, Trainer};
use crate::workers::Workers;

/// Name of the file of counts.
pub const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "ema.safetensors";

/// Number of the checkpoint format that this version writes and reads.
const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    tool_version: String,
    #[serde(flatten)]
    counts: Counts,
}

/// Writes a checkpoint as the folder `path`, replacing one of that name. `optimizer` is the
/// whole one where the trainer has a part of it.
///
/// # Errors
///
/// Something cannot be written; there is nothing new under `path` then.
pub fn save(trainer: &Trainer, optimizer: Option<&AdamW>, path: &Path) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.tmp"));
    let optimizer = optimizer.unwrap_or(&trainer.optimizer);
    let written = write(trainer, optimizer, &unfinished).and_then(|()| replace(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    written
}

fn write(trainer: &Trainer, optimizer: &AdamW, folder: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(|error| TrainError::io(folder, error))?;
    let metadata = BTreeMap::from([
        (
            "tool_version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("step".to_owned(), trainer.counts.step.to_string()),
    ]);
    trainer.model.save(folder, &metadata)?;
    optimizer.save(&folder.join(OPTIMIZER))?;
    if let Some(average) = &trainer.average {
        average.save(&folder.join(AVERAGE))?;
    }
    trainer.carry.save(folder)?;
    let state = State {
        format: FORMAT,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        counts: trainer.counts,
    };
    let text = serde_json::to_string_pretty(&state).expect("counts have a JSON form");
    write_atomically(&folder.join(STATE), format!("{text}\n").as_bytes())?;
    Ok(())
}

/// Moves a finished folder to its place, and makes that last.
pub(crate) fn replace(unfinished: &Path, path: &Path) -> Result<(), TrainError> {
    let sync = |folder: &Path| {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| TrainError::io(folder, error))
    };
    sync(unfinished)?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(|error| TrainError::io(path, error))?;
    }
    fs::rename(unfinished, path).map_err(|error| TrainError::io(path, error))?;
    sync(
        path.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )
}

/// Reads a checkpoint for a run with this configuration.
///
/// # Errors
///
/// The checkpoint is missing something, damaged, or of another model; the error names the
/// keys that differ.
pub fn load(path: &Path, config: &RunConfig, device: Device) -> Result<Trainer, TrainError> {
    let state = path.join(STATE);
    let text = fs::read_to_string(&state).map_err(|error| TrainError::io(&state, error))?;
    let state: State = serde_json::from_str(&text)
        .map_err(|error| TrainError::checkpoint(path, format!("{STATE}: {error}")))?;
    if state.format != FORMAT {
        let found = state.format;
        return Err(TrainError::checkpoint(
            path,
            format!("format {found}, but this version reads format {FORMAT}"),
        ));
    }
    let saved = Config::read(&path.join(CONFIG))?;
    let differing = differences(&saved, &config.model);
    if !differing.is_empty() {
        return Err(TrainError::checkpoint(
            path,
            format!(
                "is of another model: {}; use the run's own configuration, or start another \
                 run with --resume never and another --out",
                differing.join(", ")
            ),
        ));
    }
    let weights = TensorFile::open(&path.join(WEIGHTS))?;
    let params = read_params(&config.model, &weights, "", device)?;
    let model = HNet::with_params(config.model.clone(), params, device)
        .with_compute(config.train.compute(device));
    let optimizer = AdamW::load(&path.join(OPTIMIZER), &config.optimizer, model.params())?;
    let average = match config.train.ema_decay {
        decay if decay > 0.0 && path.join(AVERAGE).exists() => {
            Some(Average::load(&path.join(AVERAGE), decay, &model)?)
        }
        decay if decay > 0.0 => Some(Average::new(decay, &model)?),
        _ => None,
    };
    let train = &config.train;
    let carry = Carry::load(
        path,
        &config.long_range,
        train.seed,
        train.accumulate,
        &model,
    )?;
    Ok(Trainer {
        config: config.clone(),
        carry,
        model,
        optimizer,
        average,
        counts: state.counts,
        workers: Workers::new(config.train.accumulate, device),
        group: Alone::group(),
        parallel: None,
    })
}

/// Keys in which two model configurations differ, with both values; the context, which
/// follows the data, is no difference.
fn differences(saved: &Config, wanted: &Config) -> Vec<String> {
    let flat = |config: &Config| {
        let mut config = config.clone();
        config.cistron.context = 0;
        let mut keys = BTreeMap::new();
        flatten(
            "model",
            &serde_json::to_value(&config).unwrap_or_default(),
            &mut keys,
        );
        keys
    };
    let (saved, wanted) = (flat(saved), flat(wanted));
    let keys: std::collections::BTreeSet<&String> = saved.keys().chain(wanted.keys()).collect();
    let show = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
    keys.into_iter()
        .filter(|key| saved.get(*key) != wanted.get(*key))
        .map(|key| {
            let (here, there) = (show(saved.get(key)), show(wanted.get(key)));
            format!("{key} is {here} in the checkpoint and {there} in the configuration")
        })
        .collect()
}

/// All values that are no tables, by dotted key.
pub(crate) fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&key, value, out);
            }
        }
        value => {
            out.insert(prefix.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn config(sets: &[&str]) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        RunConfig::parse(testing::TINY, Path::new("tiny.toml"), &sets).unwrap()
    }

    #[test]
    fn another_model_is_an_error_that_names_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-00000000");
        let trainer = Trainer::new(&config(&[]), Device::Cpu).unwrap();
        save(&trainer, None, &path).unwrap();
        assert!(load(&path, &config(&["data.length=4096"]), Device::Cpu).is_ok());
        let other = config(&["model.d_model=[16,64]", "model.cistron.alpha=0.5"]);
        let error = load(&path, &other, Device::Cpu).unwrap_err().to_string();
        for part in [
            "model.d_model is [16,32] in the checkpoint and [16,64] in the configuration",
            "model.cistron.alpha is 0.02 in the checkpoint and 0.5",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("vocab_size"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_last_checkpoint_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-00000004");
        let trainer = Trainer::new(&config(&[]), Device::Cpu).unwrap();
        save(&trainer, None, &path).unwrap();
        // A file where the unfinished folder would be.
        fs::write(folder.path().join(".step-00000004.tmp"), "").unwrap();
        let error = save(&trainer, None, &path).unwrap_err().to_string();
        assert!(error.contains(".step-00000004.tmp"), "{error}");
        assert!(load(&path, &config(&[]), Device::Cpu).is_ok());
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-00000000");
        let trainer = Trainer::new(&config(&["train.ema_decay=0.9"]), Device::Cpu).unwrap();
        save(&trainer, None, &path).unwrap();
        for name in [WEIGHTS, OPTIMIZER, AVERAGE] {
            let file = path.join(name);
            let whole = fs::read(&file).unwrap();
            fs::write(&file, &whole[..whole.len() - 8]).unwrap();
            let error = load(&path, &config(&["train.ema_decay=0.9"]), Device::Cpu).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            fs::write(&file, &whole).unwrap();
        }
        assert!(load(&path, &config(&["train.ema_decay=0.9"]), Device::Cpu).is_ok());
    }
}
