//! The states that the windows of a run begin from (`[long_range]`).
//!
//! Training from nothing meets only the states that a window's length leads to; a model may
//! fail on those beyond (Buitrago Ruiz and Gu 2025). The four methods hand windows other
//! first states. No gradient flows through them.

use std::collections::BTreeMap;
use std::path::Path;

use cistron_model::checkpoint::{TensorFile, write_tensors};
use cistron_model::{HNet, State};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::batch::Batch;
use crate::config::{LongRangeConfig, Method};
use crate::sampler::{Place, mix};

/// What the moments keep of themselves at each step.
const DECAY: f64 = 0.99;
/// Name of the file of moments in a checkpoint.
const MOMENTS: &str = "moments.safetensors";

/// Name of the file of states of the `part`-th batch of a step.
fn carried(part: usize) -> String {
    format!("carry-{part}.safetensors")
}

/// Mean of the values and of their squares in the last scan states of one layer, by head.
#[derive(Debug)]
struct Moments {
    mean: Tensor,
    square: Tensor,
}

/// What is kept from one step for the next.
#[derive(Debug)]
pub struct Carry {
    config: LongRangeConfig,
    seed: u64,
    /// For each batch of a step, the states after its rows.
    parts: Vec<Option<State>>,
    /// By layer.
    moments: BTreeMap<String, Moments>,
}

impl Carry {
    /// Nothing yet.
    pub fn new(config: &LongRangeConfig, seed: u64) -> Self {
        Self {
            config: config.clone(),
            seed,
            parts: Vec::new(),
            moments: BTreeMap::new(),
        }
    }

    /// Forgets all states; moments stay.
    pub fn forget(&mut self) {
        self.parts.clear();
    }

    /// Gives the batch at `place` its first states, and says whether its last are wanted.
    pub fn begin(&self, batch: &mut Batch, place: Place, model: &HNet) {
        let learns = self.config.method != Method::Noise;
        batch.keep = learns && self.config.keeps(place.step);
        if !self.config.gives(place.step) || !batch.continues.contains(&true) {
            return;
        }
        let nothing: Vec<bool> = batch.continues.iter().map(|given| !given).collect();
        let sequences = batch.lengths.len() as i64;
        let given = match self.config.method {
            Method::None => None,
            Method::StatePassing | Method::Tbptt => self.passed(place, &batch.rows),
            Method::Noise => {
                let scale = Tensor::from(self.config.noise as f32).to_device(model.device());
                let noise = |(_, scan): (&str, &Tensor)| Some(scan * &scale);
                self.noise(&model.empty_state(sequences), place, noise)
            }
            Method::FittedNoise => {
                self.noise(&model.empty_state(sequences), place, |(name, noise)| {
                    let moments = self.moments.get(name)?;
                    let variance = &moments.square - &moments.mean * &moments.mean;
                    let by_head = |values: &Tensor| {
                        let mut shape = vec![1; noise.dim()];
                        shape[1] = values.size()[0];
                        values.view(shape.as_slice())
                    };
                    let deviation = by_head(&variance.clamp_min(0.0).sqrt());
                    Some(noise * deviation + by_head(&moments.mean))
                })
            }
        };
        batch.initial = given.map(|state| state.forget(&nothing));
    }

    /// The states that rows have left at the step before.
    fn passed(&self, place: Place, rows: &[i64]) -> Option<State> {
        let state = self.parts.get(place.part as usize)?.as_ref()?;
        let held = state.sequences();
        let rows: Vec<i64> = rows.iter().map(|row| row % held).collect();
        Some(state.select(&rows))
    }

    /// `empty` with scan states made of normal noise; none when `make` makes none.
    fn noise(
        &self,
        empty: &State,
        place: Place,
        make: impl Fn((&str, &Tensor)) -> Option<Tensor>,
    ) -> Option<State> {
        let stream = mix(mix(mix(mix(self.seed) ^ place.step) ^ place.part) ^ place.rank);
        let (mut layer, mut missing) = (0, false);
        let state = empty.map_scans(&mut |name, scan| {
            layer += 1;
            let mut rng = ChaCha8Rng::seed_from_u64(mix(stream ^ layer));
            let values: Vec<f32> = StandardNormal
                .sample_iter(&mut rng)
                .take(scan.numel())
                .collect();
            let noise = Tensor::from_slice(&values)
                .to_device(scan.device())
                .view(scan.size().as_slice());
            make((name, &noise)).unwrap_or_else(|| {
                missing = true;
                scan.shallow_clone()
            })
        });
        (!missing).then_some(state)
    }

    /// Takes the states after the batches of a step, in their order.
    pub fn end(&mut self, states: Vec<Option<State>>) {
        let states: Vec<Option<State>> = states
            .into_iter()
            .map(|state| match self.config.method {
                Method::StatePassing => state.map(|state| state.recurrent()),
                _ => state,
            })
            .collect();
        match self.config.method {
            Method::None | Method::Noise => {}
            Method::StatePassing | Method::Tbptt => self.parts = states,
            Method::FittedNoise => states.iter().flatten().for_each(|state| self.fit(state)),
        }
    }

    fn fit(&mut self, state: &State) {
        for (name, scan) in state.scans() {
            let heads = scan.size()[1];
            let by_head = scan.transpose(0, 1).reshape([heads, -1]);
            let mean = |values: &Tensor| values.mean_dim([1i64].as_slice(), false, Kind::Float);
            let (mean, square) = (mean(&by_head), mean(&(&by_head * &by_head)));
            let moments = match self.moments.remove(&name) {
                None => Moments { mean, square },
                Some(old) => Moments {
                    mean: old.mean * DECAY + mean * (1.0 - DECAY),
                    square: old.square * DECAY + square * (1.0 - DECAY),
                },
            };
            self.moments.insert(name, moments);
        }
    }

    /// Writes what is kept into the folder of a checkpoint.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), TrainError> {
        for (part, state) in self.parts.iter().enumerate() {
            if let Some(state) = state {
                state.save(&folder.join(carried(part)))?;
            }
        }
        if !self.moments.is_empty() {
            let tensors: Vec<(String, Tensor)> = self
                .moments
                .iter()
                .flat_map(|(name, moments)| {
                    [("mean", &moments.mean), ("square", &moments.square)]
                        .map(|(what, tensor)| (format!("{name}.{what}"), tensor.shallow_clone()))
                })
                .collect();
            write_tensors(&folder.join(MOMENTS), &tensors, &BTreeMap::new())?;
        }
        Ok(())
    }

    /// Reads what a checkpoint has kept, for this configuration.
    ///
    /// # Errors
    ///
    /// A file is damaged.
    pub fn load(
        folder: &Path,
        config: &LongRangeConfig,
        seed: u64,
        parts: u64,
        model: &HNet,
    ) -> Result<Self, TrainError> {
        let mut carry = Self::new(config, seed);
        let passes = matches!(config.method, Method::StatePassing | Method::Tbptt);
        for part in 0..parts as usize {
            let path = folder.join(carried(part));
            let state = match passes && path.exists() {
                true => Some(State::load(&path, &model.empty_state(1))?),
                false => None,
            };
            carry.parts.push(state);
        }
        let path = folder.join(MOMENTS);
        if config.method == Method::FittedNoise && path.exists() {
            let file = TensorFile::open(&path)?;
            for (name, _) in model.empty_state(1).scans() {
                let read = |what: &str| -> Result<Tensor, TrainError> {
                    let tensor = file.tensor(&format!("{name}.{what}"))?;
                    Ok(tensor.to_device(model.device()))
                };
                let moments = Moments {
                    mean: read("mean")?,
                    square: read("square")?,
                };
                carry.moments.insert(name.clone(), moments);
            }
        }
        Ok(carry)
    }
}

/// The states after the last sequence of each row, cut off from the gradient.
pub fn after_rows(state: &State, rows: &[i64]) -> State {
    let last: Vec<i64> = (0i64..)
        .zip(rows)
        .filter(|(i, row)| rows.get(*i as usize + 1) != Some(*row))
        .map(|(i, _)| i)
        .collect();
    let state = state.detach();
    match last.len() == rows.len() {
        true => state,
        false => state.select(&last),
    }
}
