//! Exchange of weights between the two ways in which channels of B and C are paired.
//!
//! The pairs (i, i + N/2) and (2 i, 2 i + 1) describe the same mixer after a permutation of the
//! state channels in the rows of the in-projection that make B and C, in their norms and biases.

use std::collections::BTreeMap;

use cistron_kernels::mamba3::{halves_of_pairs, pairs_of_halves};
use tch::Tensor;

use crate::config::Config;
use crate::config::mamba3::{Mamba3Shape, RotaryLayout};
use crate::error::ModelError;
use crate::hnet::HNet;
use crate::params::Params;

/// The same function with its Mamba-3 parameters in another rotary layout.
///
/// # Errors
///
/// None for a model that is valid.
pub fn with_rotary_layout(model: &HNet, layout: RotaryLayout) -> Result<HNet, ModelError> {
    let _guard = tch::no_grad_guard();
    let mut config = model.config().clone();
    let Some(mamba3) = config.cistron.mamba3.as_mut() else {
        return Ok(model.shallow_clone());
    };
    mamba3.rotary_layout = layout;
    let changed = changed(model, &config);
    let params = Params::build(&config, |spec| match changed.get(&spec.name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => match model.params().get(&spec.name) {
            Some(param) => Ok(param.tensor.detach().copy()),
            None => unreachable!("the same parameters follow from either layout"),
        },
    })?;
    Ok(HNet::with_params(config, params, model.device()))
}

/// Parameters that differ under `config`, by name.
fn changed(model: &HNet, config: &Config) -> BTreeMap<String, Tensor> {
    let mut changed = BTreeMap::new();
    for (name, param) in model.params().iter() {
        let Some(prefix) = name.strip_suffix("B_bias") else {
            continue;
        };
        let get = |name: &str| model.params().get(&format!("{prefix}{name}"));
        let mimo = get("mimo_x").is_some();
        let shape = Mamba3Shape::of(model.config(), param.stage, mimo);
        let change = match (
            shape.halves,
            Mamba3Shape::of(config, param.stage, mimo).halves,
        ) {
            (true, false) => pairs_of_halves,
            (false, true) => halves_of_pairs,
            _ => continue,
        };
        for name in [
            "B_bias",
            "C_bias",
            "B_norm.weight",
            "C_norm.weight",
            "in_proj.weight",
        ] {
            let Some(param) = get(name) else { continue };
            let tensor = param.tensor.detach();
            let tensor = if name == "in_proj.weight" {
                regrouped_rows(&tensor, &shape, change)
            } else {
                change(&tensor).contiguous()
            };
            changed.insert(format!("{prefix}{name}"), tensor);
        }
    }
    changed
}

/// The in-projection with the rows of B and C regrouped.
fn regrouped_rows(weight: &Tensor, shape: &Mamba3Shape, change: fn(&Tensor) -> Tensor) -> Tensor {
    let mut parts = weight.split_with_sizes(shape.widths().as_slice(), 0);
    for part in &mut parts[2..4] {
        // Columns of the transposed rows: [width, rank, groups, states].
        let columns = part
            .transpose(0, 1)
            .reshape([-1, shape.rank, shape.groups, shape.states]);
        *part = change(&columns)
            .reshape([-1, shape.projection()])
            .transpose(0, 1);
    }
    Tensor::cat(&parts, 0)
}
