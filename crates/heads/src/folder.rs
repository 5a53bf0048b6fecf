//! The folder of a trained head: `head.json` and a file of weights for each member.

use std::fs;
use std::path::{Path, PathBuf};

use cistron_model::checkpoint::write_atomically;
use cistron_model::lyra::{Lyra, LyraConfig};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::alphabet::Alphabet;
use crate::dataset::Task;
use crate::embed::Level;
use crate::error::HeadError;
use crate::scale::Scale;
use crate::view::View;

/// The file that describes a head.
pub const DESCRIPTION: &str = "head.json";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;

/// A backbone whose frozen states a head reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backbone {
    /// Folder or name of the model.
    pub model: String,
    /// SHA-256 of its weights, as its provenance has it.
    pub provenance: String,
    /// What is a position of the head.
    pub level: Level,
    /// Coding sequence of the wild type, for proteins.
    #[serde(default)]
    pub cds: Option<String>,
}

/// Networks that were trained on the same rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fold {
    /// Name of the split.
    pub name: String,
    /// A scale for each target.
    pub scales: Vec<Scale>,
    /// Files of weights, relative to the folder.
    pub members: Vec<String>,
    /// Root of the mean square error on validation rows, for regression, in units of the target.
    #[serde(default)]
    pub residual: Option<f64>,
}

/// What a head is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// Number of the format.
    pub format: u32,
    /// Version of the tool.
    pub tool_version: String,
    /// The command that trained it.
    pub command: String,
    /// What it learned.
    pub task: Task,
    /// The letters it reads.
    pub alphabet: Alphabet,
    /// The positions it reads.
    pub view: View,
    /// The wild type as text, where there is one.
    pub wild_type: Option<String>,
    /// Number of the wild type's first letter.
    pub first: i64,
    /// Names of the targets.
    pub targets: Vec<String>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The network.
    pub lyra: LyraConfig,
    /// The backbone, where the head reads states of one.
    #[serde(default)]
    pub backbone: Option<Backbone>,
    /// The networks.
    pub folds: Vec<Fold>,
}

impl Description {
    /// The format to put into a new description.
    pub const FORMAT: u32 = FORMAT;
}

/// A head with the weights of all members.
#[derive(Debug)]
pub struct Head {
    /// What it is.
    pub description: Description,
    /// Members by fold.
    pub members: Vec<Vec<Lyra>>,
}

impl Head {
    /// Reads a folder that [`save`] wrote.
    ///
    /// # Errors
    ///
    /// A file is missing or damaged, or of a newer format.
    pub fn load(folder: &Path, device: Device) -> Result<Self, HeadError> {
        let path = folder.join(DESCRIPTION);
        let error = |problem: String| HeadError::Folder {
            path: path.clone(),
            problem,
        };
        let text = fs::read_to_string(&path).map_err(|cause| {
            error(format!(
                "{cause}; expected the folder of a head, from `cistron head train`"
            ))
        })?;
        let description: Description =
            serde_json::from_str(&text).map_err(|cause| error(format!("is damaged: {cause}")))?;
        if description.format != FORMAT {
            return Err(error(format!(
                "has format {}; this version reads format {FORMAT}",
                description.format
            )));
        }
        let load = |file: &String| Lyra::load(&description.lyra, &folder.join(file), device);
        let members = description
            .folds
            .iter()
            .map(|fold| fold.members.iter().map(load).collect())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            description,
            members,
        })
    }
}

/// Writes `head.json` and the weights; the file names are put into the description.
///
/// # Errors
///
/// A file cannot be written.
pub fn save(
    folder: &Path,
    description: &mut Description,
    members: &[Vec<&Lyra>],
) -> Result<(), HeadError> {
    let weights = folder.join("members");
    fs::create_dir_all(&weights).map_err(|cause| HeadError::Folder {
        path: weights.clone(),
        problem: format!("cannot be created: {cause}"),
    })?;
    for (fold, members) in description.folds.iter_mut().zip(members) {
        fold.members.clear();
        for (i, member) in members.iter().enumerate() {
            let word: String = fold
                .name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            let file = PathBuf::from("members").join(format!("{word}-{i}.safetensors"));
            member.save(&folder.join(&file))?;
            fold.members.push(file.to_string_lossy().into_owned());
        }
    }
    write_json(&folder.join(DESCRIPTION), description)
}

/// Writes indented JSON, whole or not at all.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), HeadError> {
    let text = serde_json::to_string_pretty(value).map_err(|cause| HeadError::Folder {
        path: path.to_owned(),
        problem: format!("cannot be written as JSON: {cause}"),
    })?;
    Ok(write_atomically(path, (text + "\n").as_bytes())?)
}
