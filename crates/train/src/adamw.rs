//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), and beside it, where the
//! configuration says so, Muon for the matrices.

use std::collections::BTreeMap;
use std::path::Path;

use cistron_kernels::optimizer::{self, Slot};
use cistron_model::Params;
use cistron_model::checkpoint::{TensorFile, write_tensors};
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::buckets::{Stretch, flat};
use crate::config::{OptimizerConfig, OptimizerKind};
use crate::muon;
use crate::workers::Gradients;

/// Key of the step count in the file's metadata.
const STEP: &str = "step";

/// The optimizer with its state, which is fp32 on the device of the parameters.
#[derive(Debug)]
pub struct AdamW {
    settings: OptimizerConfig,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running means of the gradient and of its square.
#[derive(Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
    /// First value and number of values of the parameter that these are for, flat; none for
    /// all of them in its shape.
    stretch: Option<(i64, i64)>,
}

impl Moments {
    /// What the step changes of a parameter.
    fn value(&self, param: &Tensor) -> Tensor {
        match self.stretch {
            Some((start, count)) => flat(param).narrow(0, start, count),
            None => param.shallow_clone(),
        }
    }
}

/// A parameter with its gradient and moments.
type Member<'a> = (Tensor, Tensor, &'a Moments);

impl AdamW {
    /// No steps taken, all moments zero.
    pub fn new(settings: &OptimizerConfig, params: &Params) -> Self {
        let zeros = |tensor: &Tensor| Tensor::zeros(tensor.size(), (Kind::Float, tensor.device()));
        let moments = params
            .iter()
            .map(|(name, param)| {
                let moments = Moments {
                    first: zeros(&param.tensor),
                    second: zeros(&param.tensor),
                    stretch: None,
                };
                (name.to_owned(), moments)
            })
            .collect();
        Self {
            settings: settings.clone(),
            step: 0,
            moments,
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Keeps the state of these stretches of parameters alone; steps then want gradients of
    /// the stretches, flat, and change nothing else.
    pub fn shard(&mut self, stretches: &[Stretch]) {
        let mut own = BTreeMap::new();
        for Stretch {
            name, start, count, ..
        } in stretches
        {
            let Some(moments) = self.moments.get(name) else {
                continue;
            };
            let part = |moment: &Tensor| flat(moment).narrow(0, *start, *count).copy();
            let part = Moments {
                first: part(&moments.first),
                second: part(&moments.second),
                stretch: Some((*start, *count)),
            };
            own.insert(name.clone(), part);
        }
        self.moments = own;
    }

    /// The first or second moment of a parameter, or of its stretch.
    pub fn moment(&self, name: &str, first: bool) -> Option<&Tensor> {
        let moments = self.moments.get(name)?;
        Some(if first {
            &moments.first
        } else {
            &moments.second
        })
    }

    /// As many steps taken, with these moments of whole parameters.
    #[must_use]
    pub fn with_moments(&self, first: Gradients, second: Gradients) -> Self {
        let pairs = first.into_iter().zip(second.into_values());
        let moments = pairs
            .map(|((name, first), second)| {
                let whole = Moments {
                    first,
                    second,
                    stretch: None,
                };
                (name, whole)
            })
            .collect();
        Self {
            settings: self.settings.clone(),
            step: self.step,
            moments,
        }
    }

    /// Takes one step with these gradients, in place.
    ///
    /// Each parameter's rate is `lr` times its multiplier; weight decay is decoupled and
    /// applies where the parameter says so. Parameters without a gradient stay.
    pub fn step(&mut self, params: &Params, gradients: &Gradients, lr: f64) {
        self.step += 1;
        let [beta1, beta2] = self.settings.betas;
        self.step_matrices(params, gradients, lr);
        if self.on_gpu() {
            return self.step_at_once(params, gradients, lr);
        }
        let power = i32::try_from(self.step).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - beta1.powi(power), 1.0 - beta2.powi(power));
        tch::no_grad(|| {
            for (name, param) in params.iter() {
                let (Some(gradient), Some(moments), false) = (
                    gradients.get(name),
                    self.moments.get_mut(name),
                    self.settings.takes_muon(name),
                ) else {
                    continue;
                };
                let rate = lr * param.lr_multiplier;
                let mut value = moments.value(&param.tensor);
                if param.weight_decay && self.settings.weight_decay > 0.0 {
                    let _ = value.g_mul_scalar_(1.0 - rate * self.settings.weight_decay);
                }
                let Moments { first, second, .. } = moments;
                let _ = first.g_mul_scalar_(beta1);
                let _ = first.g_add_(&(gradient * (1.0 - beta1)));
                let _ = second.g_mul_scalar_(beta2);
                let _ = second.g_add_(&(gradient.square() * (1.0 - beta2)));
                let mut scale = second.sqrt();
                let _ = scale.g_mul_scalar_(correction2.sqrt().recip());
                let _ = scale.g_add_scalar_(self.settings.eps);
                let update = &*first / scale * (rate / correction1);
                let _ = value.g_sub_(&update);
            }
        });
    }

    /// Muon's part of a step; its momentum is kept as the first moment.
    fn step_matrices(&self, params: &Params, gradients: &Gradients, lr: f64) {
        let members = params.iter().filter_map(|(name, param)| {
            if !self.settings.takes_muon(name) {
                return None;
            }
            Some(muon::Member {
                value: &param.tensor,
                gradient: gradients.get(name)?.shallow_clone(),
                momentum: &self.moments.get(name)?.first,
                rate: lr * param.lr_multiplier,
                decay: match param.weight_decay {
                    true => self.settings.weight_decay,
                    false => 0.0,
                },
            })
        });
        muon::step(members.collect());
    }

    fn on_gpu(&self) -> bool {
        let any = self.moments.values().next();
        any.is_some_and(|moments| moments.first.device().is_cuda())
    }

    /// As the loop of [`AdamW::step`], a launch for many parameters: those of the same rate
    /// and decay go together.
    fn step_at_once(&self, params: &Params, gradients: &Gradients, lr: f64) {
        let mut groups: BTreeMap<(u64, u64), Vec<Member<'_>>> = BTreeMap::new();
        for (name, param) in params.iter() {
            let (Some(gradient), Some(moments), false) = (
                gradients.get(name),
                self.moments.get(name),
                self.settings.takes_muon(name),
            ) else {
                continue;
            };
            let decay = match param.weight_decay {
                true => self.settings.weight_decay,
                false => 0.0,
            };
            let key = ((lr * param.lr_multiplier).to_bits(), decay.to_bits());
            let member = (moments.value(&param.tensor), gradient.contiguous(), moments);
            groups.entry(key).or_default().push(member);
        }
        for ((rate, decay), members) in groups {
            let slots: Vec<Slot<'_>> = members
                .iter()
                .map(|(value, gradient, moments)| Slot {
                    value,
                    gradient,
                    first: &moments.first,
                    second: &moments.second,
                })
                .collect();
            let numbers = optimizer::AdamW {
                step: self.step,
                rate: f64::from_bits(rate),
                betas: self.settings.betas,
                decay: f64::from_bits(decay),
                eps: self.settings.eps,
            };
            optimizer::adamw(&slots, numbers);
        }
    }

    /// Writes the state as safetensors: `exp_avg.NAME` and `exp_avg_sq.NAME`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let tensors: Vec<(String, Tensor)> = self
            .moments
            .iter()
            .flat_map(|(name, moments)| {
                [
                    (format!("exp_avg.{name}"), moments.first.shallow_clone()),
                    (format!("exp_avg_sq.{name}"), moments.second.shallow_clone()),
                ]
            })
            .collect();
        let metadata = BTreeMap::from([(STEP.to_owned(), self.step.to_string())]);
        Ok(write_tensors(path, &tensors, &metadata)?)
    }

    /// Reads the state that [`AdamW::save`] wrote, bit for bit.
    ///
    /// # Errors
    ///
    /// The file is missing, damaged, or does not fit the parameters.
    pub fn load(
        path: &Path,
        settings: &OptimizerConfig,
        params: &Params,
    ) -> Result<Self, TrainError> {
        let file = TensorFile::open(path)?;
        let fail = |problem: String| TrainError::checkpoint(path, problem);
        let step = file
            .metadata()
            .get(STEP)
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| fail(format!("no '{STEP}' in its metadata")))?;
        let mut moments = BTreeMap::new();
        for (name, param) in params.iter() {
            let read = |prefix: &str| -> Result<Tensor, TrainError> {
                let key = format!("{prefix}.{name}");
                let tensor = file.tensor(&key)?;
                if tensor.size() != param.tensor.size() || tensor.kind() != Kind::Float {
                    return Err(fail(format!(
                        "tensor '{key}' is {:?} {:?}, expected fp32 {:?}",
                        tensor.kind(),
                        tensor.size(),
                        param.tensor.size()
                    )));
                }
                Ok(tensor.to_device(param.tensor.device()))
            };
            let (first, second) = (read("exp_avg")?, read("exp_avg_sq")?);
            let whole = Moments {
                first,
                second,
                stretch: None,
            };
            moments.insert(name.to_owned(), whole);
        }
        Ok(Self {
            settings: settings.clone(),
            step,
            moments,
        })
    }
}

impl OptimizerConfig {
    fn takes_muon(&self, name: &str) -> bool {
        self.kind == OptimizerKind::Muon && muon::applies(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Every parameter with the gradient `value` in all its places.
    fn gradients(params: &Params, value: f64) -> Gradients {
        let full = |tensor: &Tensor| tensor.detach().full_like(value);
        params
            .iter()
            .map(|(name, param)| (name.to_owned(), full(&param.tensor)))
            .collect()
    }

    fn first_value(params: &Params, name: &str) -> f64 {
        params
            .get(name)
            .unwrap()
            .tensor
            .flatten(0, -1)
            .double_value(&[0])
    }

    /// With the same gradient in each step both corrected moments are exact, so each
    /// step moves by the rate: a closed form.
    #[test]
    fn a_constant_gradient_moves_by_the_rate() {
        let model = testing::model(1);
        let params = model.params();
        let settings = OptimizerConfig::default();
        let mut optimizer = AdamW::new(&settings, params);
        let (decayed, plain) = ("lm_head.weight", "embeddings.weight");
        let (mut x, mut y) = (first_value(params, decayed), first_value(params, plain));
        for _ in 0..5 {
            optimizer.step(params, &gradients(params, -0.5), 0.01);
            let rate = 0.01 * testing::OUTER_RATE;
            x = x * (1.0 - rate * settings.weight_decay) + rate;
            y += rate;
        }
        assert!((first_value(params, decayed) - x).abs() < 1e-6);
        assert!((first_value(params, plain) - y).abs() < 1e-6);
        assert_eq!(optimizer.steps(), 5);
    }

    #[test]
    fn changing_gradients_follow_the_published_recurrence() {
        let model = testing::model(2);
        let params = model.params();
        let settings = OptimizerConfig::default();
        let mut optimizer = AdamW::new(&settings, params);
        let name = "embeddings.weight";
        let mut x = first_value(params, name);
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in (1..).zip([0.3, -1.2, 0.05, 0.0, 2.0]) {
            optimizer.step(params, &gradients(params, g), 0.1);
            m = 0.9 * m + 0.1 * g;
            v = 0.95 * v + 0.05 * g * g;
            let (mh, vh) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.95f64.powi(t)));
            x -= 0.1 * testing::OUTER_RATE * mh / (vh.sqrt() + 1e-8);
            assert!((first_value(params, name) - x).abs() < 1e-5, "step {t}");
        }
    }

    /// What runs on a GPU takes the steps of the loop.
    #[test]
    fn all_parameters_at_once_are_each_alone() {
        let settings = OptimizerConfig::default();
        let (one, other) = (testing::model(2), testing::model(2));
        let mut loops = AdamW::new(&settings, one.params());
        let mut at_once = AdamW::new(&settings, other.params());
        for g in [0.3, -1.2, 0.05] {
            loops.step(one.params(), &gradients(one.params(), g), 0.1);
            at_once.step += 1;
            at_once.step_at_once(other.params(), &gradients(other.params(), g), 0.1);
        }
        for ((name, a), (_, b)) in one.params().iter().zip(other.params().iter()) {
            let apart = (&a.tensor - &b.tensor).abs().max().double_value(&[]);
            assert!(apart < 1e-5, "{name}: {apart}");
        }
    }

    #[test]
    fn stages_have_their_own_rates() {
        let model = testing::model(3);
        let params = model.params();
        let mut optimizer = AdamW::new(&OptimizerConfig::default(), params);
        let inner = "backbone.main_network.main_network.rmsnorm.weight";
        optimizer.step(params, &gradients(params, 1.0), 0.01);
        assert!((first_value(params, inner) - 0.99).abs() < 1e-6);
    }

    #[test]
    fn muon_moves_the_matrices_and_adamw_the_rest() {
        let settings = OptimizerConfig {
            kind: OptimizerKind::Muon,
            ..OptimizerConfig::default()
        };
        let (model, plain) = (testing::model(5), testing::model(5));
        let mut with_muon = AdamW::new(&settings, model.params());
        let mut alone = AdamW::new(&OptimizerConfig::default(), plain.params());
        with_muon.step(model.params(), &gradients(model.params(), 0.3), 0.01);
        alone.step(plain.params(), &gradients(plain.params(), 0.3), 0.01);
        for ((name, a), (_, b)) in model.params().iter().zip(plain.params().iter()) {
            assert_eq!(a.tensor == b.tensor, !muon::applies(name), "{name}");
        }
    }

    #[test]
    fn the_state_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let model = testing::model(4);
        let params = model.params();
        let settings = OptimizerConfig {
            kind: OptimizerKind::Muon,
            ..OptimizerConfig::default()
        };
        let mut optimizer = AdamW::new(&settings, params);
        for gradient in [0.1, 0.7] {
            optimizer.step(params, &gradients(params, gradient), 0.01);
        }
        optimizer.save(&path).unwrap();
        let again = AdamW::load(&path, &settings, params).unwrap();
        assert_eq!(again.step, 2);
        for (name, moments) in &optimizer.moments {
            assert_eq!(moments.first, again.moments[name].first, "{name}");
            assert_eq!(moments.second, again.moments[name].second, "{name}");
        }
    }
}
