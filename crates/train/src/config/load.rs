//! Reads, layers, checks and writes run configurations.

use std::path::Path;

use cistron_model::Config as ModelConfig;
use serde::{Deserialize, Serialize};
use tch::Device;
use toml::{Table, Value};

use super::explain::explain;
use super::set::Setting;
use super::{
    DataConfig, LongRangeConfig, OptimizerConfig, ScheduleConfig, TrainConfig, model, range,
};
use crate::TrainError;

/// A complete, checked run configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunConfig {
    /// `[model]`: the keys of a model's `config.json`; `config` names such a file,
    /// relative to the run configuration, over which the other keys are laid.
    pub model: ModelConfig,
    /// `[data]`.
    pub data: DataConfig,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    pub schedule: ScheduleConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `[long_range]`.
    pub long_range: LongRangeConfig,
}

/// The same before the model table is understood.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Layers {
    model: Table,
    data: DataConfig,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    train: TrainConfig,
    long_range: LongRangeConfig,
}

impl RunConfig {
    /// Reads the file at `path` and lays each of `sets`, as `key=value`, over it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as [`RunConfig::parse`].
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::Syntax {
            origin: path.display().to_string(),
            problem: format!(
                "{}; expected a configuration in TOML",
                cistron_genome::system::cannot_read(&error)
            ),
        })?;
        Self::parse(&text, path, sets)
    }

    /// As [`RunConfig::load`] with the text of the file at hand.
    ///
    /// # Errors
    ///
    /// Names the line or argument, the key, what was found and what is expected; for an
    /// unknown key also the nearest known one.
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Self, TrainError> {
        let sets = sets
            .iter()
            .map(|set| Setting::parse(set))
            .collect::<Result<Vec<_>, _>>()?;
        let mut table = read_file(text, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let preset = match table.get("model").and_then(|model| model.get("config")) {
            Some(Value::String(preset)) => Some(folder.join(preset)),
            _ => None,
        };
        for set in &sets {
            set.apply(&mut table)?;
        }
        let origin = |key: &str| {
            let inside = |set: &&Setting| {
                let own = set.key();
                key == own
                    || key.starts_with(&format!("{own}."))
                    || own.starts_with(&format!("{key}."))
            };
            match sets.iter().rev().find(inside) {
                Some(set) => format!("--set {}", set.text),
                None => path.display().to_string(),
            }
        };
        let fail = |key: String, problem: String| TrainError::Config {
            origin: origin(&key),
            key,
            problem,
        };
        let layers: Layers =
            serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
                let explained = explain(&e.path().to_string(), e.inner().message(), &known_keys());
                fail(explained.key, explained.problem)
            })?;
        let preset = match layers.model.get("config") {
            Some(_) if sets.iter().any(|set| set.key() == "model.config") => None,
            Some(_) => preset,
            None => None,
        };
        let model = model::resolve(layers.model, preset.as_deref(), layers.data.length, &fail)?;
        let config = Self {
            model,
            data: layers.data,
            optimizer: layers.optimizer,
            schedule: layers.schedule,
            train: layers.train,
            long_range: layers.long_range,
        };
        match range::problem(&config) {
            Some((key, problem)) => Err(fail(key.to_owned(), problem)),
            None => Ok(config),
        }
    }

    /// Writes down what the device decides: the precision where it was left open.
    #[must_use]
    pub fn on(mut self, device: Device) -> Self {
        self.train.precision = self.train.precision.on(device).into();
        self
    }

    /// Divides `train.global_batch`, where it is given, among `ranks`.
    ///
    /// # Errors
    ///
    /// It is no multiple of the sequences that all ranks have at once.
    pub fn among(mut self, ranks: u64) -> Result<Self, TrainError> {
        let (wanted, batch) = (self.train.global_batch, self.data.batch);
        if wanted == 0 {
            return Ok(self);
        }
        let at_once = batch * ranks;
        if wanted % at_once != 0 {
            return Err(TrainError::Config {
                origin: format!("{ranks} rank(s)"),
                key: "train.global_batch".into(),
                problem: format!(
                    "{wanted}: expected a multiple of data.batch = {batch} times the number of \
                     ranks, {at_once}"
                ),
            });
        }
        self.train.accumulate = wanted / at_once;
        Ok(self)
    }

    /// The whole configuration as TOML; reading it gives this configuration again.
    pub fn resolved(&self) -> String {
        toml::to_string(self).expect("every value of the configuration has a TOML form")
    }

    /// Tokens of one optimizer step on one rank, when no contig is shorter than the window.
    pub fn tokens_per_step(&self) -> u64 {
        self.data.length * self.data.batch * self.train.accumulate
    }
}

/// Parses the file and checks what can be checked without the model, with lines in errors.
fn read_file(text: &str, path: &Path) -> Result<Table, TrainError> {
    let at = |error: &toml::de::Error| match error.span() {
        Some(span) => {
            let line = 1 + text[..span.start.min(text.len())].matches('\n').count();
            format!("{}:{line}", path.display())
        }
        None => path.display().to_string(),
    };
    let syntax = |error: toml::de::Error| TrainError::Syntax {
        origin: at(&error),
        problem: format!("not TOML: {}", error.message()),
    };
    let table: Table = toml::from_str(text).map_err(syntax)?;
    let reader = toml::Deserializer::parse(text).map_err(syntax)?;
    serde_path_to_error::deserialize::<_, Layers>(reader).map_err(|error| {
        let explained = explain(
            &error.path().to_string(),
            error.inner().message(),
            &known_keys(),
        );
        TrainError::Config {
            origin: at(error.inner()),
            key: explained.key,
            problem: explained.problem,
        }
    })?;
    Ok(table)
}

/// All dotted keys outside `[model]`, and the first level of that.
fn known_keys() -> Vec<String> {
    let defaults = Table::try_from(Layers::default()).unwrap_or_default();
    let mut keys: Vec<String> = model::KEYS
        .iter()
        .map(|key| format!("model.{key}"))
        .collect();
    for (section, values) in &defaults {
        if let Value::Table(values) = values {
            keys.extend(values.keys().map(|key| format!("{section}.{key}")));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const TINY: &str = r#"
[model]
arch_layout = ["m1", ["T1"], "m1"]
d_model = [32, 64]
d_intermediate = [0, 128]
vocab_size = 8
ssm_cfg = { d_state = 16, headdim = 16 }
attn_cfg = { num_heads = 4, rotary_emb_dim = 8, window_size = -1 }
[model.cistron]
ratio = [3]
alpha = 0.02
[schedule]
steps = 20
warmup_steps = 5
"#;

    fn parse(text: &str, sets: &[&str]) -> Result<RunConfig, TrainError> {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        RunConfig::parse(text, Path::new("run.toml"), &sets)
    }

    #[test]
    fn layers_apply_in_order_and_the_resolved_form_reads_back() {
        let sets = [
            "optimizer.lr=3e-4",
            "data.batch=2",
            "data.batch=4",
            "schedule.kind=wsd",
            "model.cistron.alpha=0.5",
            "optimizer.clip=2",
        ];
        let config = parse(TINY, &sets).unwrap();
        assert_eq!(config.optimizer.lr, 3e-4);
        assert_eq!(config.optimizer.clip, 2.0);
        assert_eq!(config.data.batch, 4);
        assert_eq!(config.model.cistron.alpha, 0.5);
        assert_eq!(config.model.cistron.ratio, [3.0]);
        assert_eq!(config.model.cistron.context, 8192);
        assert_eq!(config.optimizer.weight_decay, 0.05);
        let again = parse(&config.resolved(), &[]).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn errors_name_the_place_the_key_and_the_remedy() {
        let file = |text: &str, sets: &[&str]| {
            parse(&format!("{text}\n{TINY}"), sets)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            file("[optimizer]\nlrr = 1", &[]),
            "run.toml:2: optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"
        );
        assert_eq!(
            file("[optimiser]\nlr = 1", &[]),
            "run.toml:1: optimiser: unknown key; did you mean 'optimizer'?"
        );
        assert_eq!(
            file("[data]\nbatch = \"eight\"", &[]),
            "run.toml:2: data.batch: string \"eight\", expected a whole number, 0 or more"
        );
        assert_eq!(
            file("[data]\nbatch = -8", &[]),
            "run.toml:2: data.batch: integer `-8`, expected a whole number, 0 or more"
        );
        assert_eq!(
            file("", &["data.batch=eight"]),
            "--set data.batch=eight: data.batch: string \"eight\", expected a whole number, 0 or more"
        );
        assert_eq!(
            file("", &["train.lr=1"]),
            "--set train.lr=1: train.lr: unknown key; did you mean 'optimizer.lr'?"
        );
        assert_eq!(
            file("", &["schedule.kind=cosin"]),
            "--set schedule.kind=cosin: schedule.kind: 'cosin': expected 'cosine', 'wsd' or \
             'constant'; did you mean 'cosine'?"
        );
        assert_eq!(
            file("", &["schedule.warmup_steps=21"]),
            "--set schedule.warmup_steps=21: schedule.warmup_steps: 21: expected at most \
             schedule.steps = 20"
        );
        assert!(file("[data", &[]).starts_with("run.toml:1: not TOML: "));
    }

    #[test]
    fn model_errors_name_the_key() {
        let error = |sets: &[&str]| parse(TINY, sets).unwrap_err().to_string();
        assert_eq!(
            error(&["model.d_modle=[32,64]"]),
            "--set model.d_modle=[32,64]: model.d_modle: unknown key; did you mean 'model.d_model'?"
        );
        assert_eq!(
            error(&["model.cistron.alhpa=1"]),
            "--set model.cistron.alhpa=1: model.cistron.alhpa: unknown key; did you mean \
             'model.cistron.alpha'?"
        );
        let layout = error(&[r#"model.arch_layout=["m1",["X1"],"m1"]"#]);
        assert!(
            layout.contains("model.arch_layout: ") && layout.contains("'X'"),
            "{layout}"
        );
        let width = error(&["model.d_model=[36,64]"]);
        assert!(
            width.contains("model.d_model: ") && width.contains("headdim = 16"),
            "{width}"
        );
        let kind = error(&["model.cistron.alpha=high"]);
        assert!(
            kind.contains("model.cistron.alpha: string \"high\", expected a number"),
            "{kind}"
        );
        let none = RunConfig::parse("", Path::new("run.toml"), &[])
            .unwrap_err()
            .to_string();
        assert_eq!(
            none,
            "run.toml: model: no model: give model.arch_layout, model.d_model and \
             model.d_intermediate, or name a config.json with model.config"
        );
    }

    #[test]
    fn a_model_file_is_found_beside_the_configuration_and_overlaid() {
        let folder = tempfile::tempdir().unwrap();
        let model = parse(TINY, &[]).unwrap().model;
        std::fs::create_dir(folder.path().join("models")).unwrap();
        std::fs::write(
            folder.path().join("models/tiny.json"),
            serde_json::to_string(&model).unwrap(),
        )
        .unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(
            &path,
            "[model]\nconfig = \"models/tiny.json\"\ncistron.alpha = 0.25\n",
        )
        .unwrap();
        let config = RunConfig::load(&path, &["schedule.steps=200".into()]).unwrap();
        assert_eq!(config.model.cistron.alpha, 0.25);
        assert_eq!(config.model.d_model, model.d_model);
        let missing = RunConfig::load(&path, &["model.config=no.json".into()]).unwrap_err();
        assert!(missing.to_string().starts_with("no.json: "), "{missing}");
    }
}
