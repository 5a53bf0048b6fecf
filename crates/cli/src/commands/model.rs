//! `cistron model`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cistron_model::config::mamba3::RotaryLayout;
use cistron_model::mixer::mamba3::exchange::with_rotary_layout;
use cistron_model::{checkpoint, inspect};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tch::{Device, Kind};

use crate::global::Global;
use crate::models::ModelArg;
use crate::output;

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Print layout, sizes and tensors of a model
    Inspect(Inspect),
    /// Write a model as a folder, in fp32 or bf16
    Export(Export),
}

/// Number format of stored weights.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    /// 32-bit floating point, as trained
    F32,
    /// 16 bits with the range of fp32: half the size
    Bf16,
}

/// How channels of B and C are paired in Mamba-3 blocks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rotary {
    /// That of the reference code: pairwise in SISO blocks, half in MIMO blocks
    Reference,
    /// Channel 2 i with 2 i + 1
    Pairwise,
    /// Channel i with i + d_state / 2
    Half,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron model export --model nano --out nano
  cistron model export --model run/model --dtype bf16 --out small")]
pub struct Export {
    #[command(flatten)]
    model: ModelArg,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Number format of the weights; models compute in fp32 whatever it is
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Permute the state channels of Mamba-3 blocks into this layout; the model computes the same
    #[arg(long, value_enum, value_name = "LAYOUT")]
    rotary_layout: Option<Rotary>,
    /// Write into a folder that holds something
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron model inspect --model run/model
  cistron model inspect --model run/model --tensors
  cistron model inspect --model run/model --json | jq .parameters")]
pub struct Inspect {
    #[command(flatten)]
    model: ModelArg,
    /// Also list every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(_: &Global, command: ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Inspect(command) => inspect(&command),
        ModelCommand::Export(command) => export(&command),
    }
}

fn export(command: &Export) -> anyhow::Result<()> {
    let loaded = command.model.load(Device::Cpu)?;
    output::claim_folder(&command.out, command.force)?;
    let kind = match command.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::Bf16 => Kind::BFloat16,
    };
    let digest = loaded.provenance.rsplit('=').next().unwrap_or_default();
    let metadata = BTreeMap::from([
        (
            "tool_version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("exported_from_sha256".to_owned(), digest.to_owned()),
    ]);
    let model = match command.rotary_layout {
        None => loaded.model,
        Some(layout) => with_rotary_layout(
            &loaded.model,
            match layout {
                Rotary::Reference => RotaryLayout::Reference,
                Rotary::Pairwise => RotaryLayout::Pairwise,
                Rotary::Half => RotaryLayout::Half,
            },
        )?,
    };
    Ok(checkpoint::save(&model, &command.out, kind, &metadata)?)
}

fn inspect(command: &Inspect) -> anyhow::Result<()> {
    let loaded = command.model.load(Device::Cpu)?;
    let (model, config) = (&loaded.model, loaded.model.config());
    let stages = inspect::stages(config);
    let tensors: Vec<_> = model
        .params()
        .iter()
        .map(|(name, param)| (name, param.tensor.size(), param))
        .collect();
    if command.json {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape, param)| {
                json!({ "name": name, "shape": shape, "stage": param.stage,
                        "lr_multiplier": param.lr_multiplier, "weight_decay": param.weight_decay })
            })
            .collect();
        return output::print_json(&json!({
            "model": loaded.provenance,
            "parameters": model.params().count(),
            "config": config,
            "stages": stages,
            "tensors": tensors,
        }));
    }
    let mut text = format!(
        "model\t{}\nparameters\t{}\nalphabet\t{:?}, vocabulary {}\ncontext\t{}\n\n",
        loaded.provenance,
        model.params().count(),
        config.alphabet(),
        config.vocab_size,
        match config.cistron.context {
            0 => "unknown".to_owned(),
            context => format!("{context} bases"),
        }
    );
    text += "stage\tlayout\td_model\tparameters\ttarget ratio\tlr multiplier\n";
    for stage in &stages {
        let ratio = stage
            .ratio
            .map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
        text += &format!(
            "{}\t{}\t{}\t{}\t{ratio}\t{}\n",
            stage.stage,
            stage.layout.join(" … "),
            stage.d_model,
            stage.parameters,
            stage.lr_multiplier
        );
    }
    if command.tensors {
        text += "\ntensor\tshape\tstage\tweight decay\n";
        for (name, shape, param) in tensors {
            let decay = if param.weight_decay { "yes" } else { "no" };
            text += &format!("{name}\t{shape:?}\t{}\t{decay}\n", param.stage);
        }
    }
    output::print(&text)
}
