//! `cistron model`.

use cistron_model::inspect;
use clap::{Args, Subcommand};
use serde_json::json;
use tch::Device;

use crate::global::Global;
use crate::models::ModelArg;
use crate::output;

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Print layout, sizes and tensors of a model
    Inspect(Inspect),
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
    let ModelCommand::Inspect(command) = command;
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
