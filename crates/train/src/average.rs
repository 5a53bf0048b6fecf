//! An exponential moving average of the weights.

use std::collections::BTreeMap;
use std::path::Path;

use cistron_model::checkpoint::{TensorFile, read_params, write_tensors};
use cistron_model::{HNet, Params};
use tch::Tensor;

use crate::TrainError;

/// A model whose weights follow another's: `average ← d · average + (1 - d) · weights`.
///
/// After `n` steps `d` is at most `(1 + n) / (10 + n)`, so that the first weights are
/// forgotten soon.
#[derive(Debug)]
pub struct Average {
    decay: f64,
    model: HNet,
}

impl Average {
    /// Starts at the weights of `model`.
    ///
    /// # Errors
    ///
    /// libtorch refuses the copy.
    pub fn new(decay: f64, model: &HNet) -> Result<Self, TrainError> {
        let params = Params::build(model.config(), |spec| {
            let param = model.params().get(&spec.name);
            let param = param.expect("a model has the parameters its config implies");
            Ok(param.tensor.detach().copy())
        })?;
        let model = HNet::with_params(model.config().clone(), params, model.device())
            .with_compute(model.compute().clone());
        Ok(Self { decay, model })
    }

    /// The model of averaged weights.
    pub fn model(&self) -> &HNet {
        &self.model
    }

    /// Follows `weights`, which have just taken their `step`-th step.
    pub fn update(&mut self, weights: &Params, step: u64) {
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        tch::no_grad(|| {
            for ((_, average), (_, weight)) in self.model.params().iter().zip(weights.iter()) {
                let mut average = average.tensor.shallow_clone();
                let _ = average.lerp_(&weight.tensor, 1.0 - decay);
            }
        });
    }

    /// Writes the averaged weights as safetensors under the model's names.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let tensors: Vec<(String, Tensor)> = self
            .model
            .params()
            .iter()
            .map(|(name, param)| (name.to_owned(), param.tensor.shallow_clone()))
            .collect();
        let metadata = BTreeMap::from([("decay".to_owned(), self.decay.to_string())]);
        Ok(write_tensors(path, &tensors, &metadata)?)
    }

    /// Reads averaged weights for a model like `model`.
    ///
    /// # Errors
    ///
    /// The file is missing, damaged, or of another model.
    pub fn load(path: &Path, decay: f64, model: &HNet) -> Result<Self, TrainError> {
        let file = TensorFile::open(path)?;
        let params = read_params(model.config(), &file, "", model.device())?;
        let model = HNet::with_params(model.config().clone(), params, model.device())
            .with_compute(model.compute().clone());
        Ok(Self { decay, model })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn value(model: &HNet) -> f64 {
        model
            .params()
            .get("lm_head.weight")
            .unwrap()
            .tensor
            .double_value(&[0, 0])
    }

    #[test]
    fn the_average_lags_behind_and_comes_back_from_its_file() {
        let model = testing::model(5);
        let mut average = Average::new(0.9, &model).unwrap();
        let start = value(&model);
        tch::no_grad(|| {
            let _ = model
                .params()
                .get("lm_head.weight")
                .unwrap()
                .tensor
                .shallow_clone()
                .g_add_scalar_(1.0);
        });
        assert_eq!(value(average.model()), start);
        average.update(model.params(), 1);
        let early = 2.0 / 11.0;
        assert!((value(average.model()) - (start + 1.0 - early)).abs() < 1e-6);
        average.update(model.params(), 1000);
        assert!((value(average.model()) - (start + 1.0 - 0.9 * early)).abs() < 1e-6);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ema.safetensors");
        average.save(&path).unwrap();
        let again = Average::load(&path, 0.9, &model).unwrap();
        for ((name, a), (_, b)) in average
            .model()
            .params()
            .iter()
            .zip(again.model().params().iter())
        {
            assert_eq!(a.tensor, b.tensor, "{name}");
        }
    }
}
