//! The `[model]` table: a model configuration in TOML.

use std::path::{Path, PathBuf};

use cistron_model::{Config, ModelError};
use serde_json::Value;

use super::explain::explain;
use crate::TrainError;

/// Keys of the table.
pub const KEYS: [&str; 9] = [
    "config",
    "arch_layout",
    "d_model",
    "d_intermediate",
    "vocab_size",
    "ssm_cfg",
    "attn_cfg",
    "tie_embeddings",
    "cistron",
];

/// Makes a model configuration of the table. Its key `config` names a JSON file over
/// which the other keys are laid: `preset` where given, else relative to the working
/// folder. `length` is the context the model will have seen.
///
/// # Errors
///
/// Through `fail` with the key, or the JSON file's own.
pub fn resolve(
    mut table: toml::Table,
    preset: Option<&Path>,
    length: u64,
    fail: &dyn Fn(String, String) -> TrainError,
) -> Result<Config, TrainError> {
    let base = match table.remove("config") {
        None => None,
        Some(toml::Value::String(path)) => Some(preset.map_or(PathBuf::from(path), Path::to_owned)),
        Some(other) => {
            let problem = format!(
                "{} {other}, expected the path of a config.json",
                other.type_str()
            );
            return Err(fail("model.config".into(), problem));
        }
    };
    if base.is_none() && !table.contains_key("arch_layout") && !table.contains_key("d_model") {
        let problem = "no model: give model.arch_layout, model.d_model and model.d_intermediate, \
                       or name a config.json with model.config";
        return Err(fail("model".into(), problem.into()));
    }
    let mut value = match base {
        Some(path) => serde_json::to_value(Config::read(&path)?).unwrap_or_default(),
        None => Value::Object(serde_json::Map::new()),
    };
    let inline =
        serde_json::to_value(table).map_err(|error| fail("model".into(), error.to_string()))?;
    overlay(&mut value, inline);
    let mut config: Config = serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => "model".to_owned(),
            path => format!("model.{path}"),
        };
        let known: Vec<String> = KEYS.iter().map(|key| format!("model.{key}")).collect();
        let explained = explain(&path, &error.inner().to_string(), &known);
        fail(explained.key, explained.problem)
    })?;
    config = config.settled();
    config.validate().map_err(|error| match error {
        ModelError::Config { key, problem } => fail(format!("model.{key}"), problem),
        other => TrainError::Model(other),
    })?;
    config.cistron.context = config.cistron.context.max(length as i64);
    Ok(config)
}

/// Lays `over` on `base`, table by table.
fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
