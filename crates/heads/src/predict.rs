//! Predictions of a trained head.

use std::borrow::Cow;

use cistron_model::lyra::Pooling;
use tch::{Device, Kind, Tensor};

use crate::dataset::Task;
use crate::error::HeadError;
use crate::folder::Head;
use crate::metrics::{deviation, mean};
use crate::network::{Inputs, Network};
use crate::run::{ensemble, width};
use crate::trainer;

/// A prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// Numbers in units of the target, or probabilities; the mean over all networks.
    pub values: Vec<f64>,
    /// Standard deviations over networks; 0 where there is one.
    pub deviations: Vec<f64>,
}

impl Head {
    /// Number of networks.
    pub fn networks(&self) -> usize {
        self.members.iter().map(Vec::len).sum()
    }

    /// Letters of the wild type by their numbers.
    ///
    /// # Errors
    ///
    /// The head has none: it was trained on sequences of several lengths.
    pub fn wild_type(&self) -> Result<Vec<u8>, HeadError> {
        let text = self.description.wild_type.as_ref().ok_or_else(|| {
            HeadError::Options(
                "the head has no wild type: it was trained on sequences of several lengths".into(),
            )
        })?;
        let encoded = self.description.alphabet.encode_all(text.as_bytes());
        encoded.map_err(|(place, letter)| {
            HeadError::Options(format!(
                "the head's wild type has '{letter}' as letter {place}"
            ))
        })
    }

    /// Why a sequence cannot be predicted, if it cannot: a wrong length, or a change where the
    /// head does not look.
    pub fn refuses(&self, sequence: &[u8]) -> Option<&'static str> {
        let Some(wild_type) = &self.description.wild_type else {
            return sequence.is_empty().then_some("empty");
        };
        let view = &self.description.view;
        if sequence.len() != wild_type.len() {
            let fixed = self.description.lyra.pooling == Pooling::Position || view.end.is_some();
            return fixed.then_some("other-length");
        }
        let letters = wild_type.bytes().zip(sequence).enumerate();
        let alphabet = self.description.alphabet;
        let changed =
            |(i, (w, &s)): (usize, (u8, &u8))| !view.has(i) && alphabet.encode(w) != Some(s);
        letters.clone().any(changed).then_some("outside-view")
    }

    /// Predicts sequences of letters by number, none of which [`Head::refuses`].
    ///
    /// # Errors
    ///
    /// The head reads a backbone's states: see [`Head::predict_inputs`].
    pub fn predict(
        &self,
        sequences: &[&[u8]],
        device: Device,
        parallel: bool,
    ) -> Result<Vec<Predicted>, HeadError> {
        if self.description.backbone.is_some() {
            return Err(HeadError::Options(
                "the head reads states of a backbone; letters alone are not enough".into(),
            ));
        }
        let views: Vec<Cow<'_, [u8]>> = sequences
            .iter()
            .map(|sequence| self.description.view.of(sequence))
            .collect();
        let views: Vec<&[u8]> = views.iter().map(AsRef::as_ref).collect();
        let inputs = Inputs::letters(&views, self.description.alphabet.size(), device);
        let wild_type = match self.description.lyra.pooling {
            Pooling::Position => {
                let letters = self.wild_type()?;
                let letters = self.description.view.of(&letters);
                let letters: Vec<i64> = letters.iter().map(|&letter| i64::from(letter)).collect();
                Some(Tensor::from_slice(&letters).unsqueeze(0).to_device(device))
            }
            _ => None,
        };
        Ok(self.predict_inputs(&inputs, wild_type.as_ref(), parallel))
    }

    /// Predicts inputs as the members read them; `wild_type` is for position pooling.
    pub fn predict_inputs(
        &self,
        inputs: &Inputs,
        wild_type: Option<&Tensor>,
        parallel: bool,
    ) -> Vec<Predicted> {
        let rows: Vec<usize> = (0..inputs.letters.size()[0] as usize).collect();
        let task = self.description.task;
        if inputs.letters.device() == Device::Cpu {
            tch::set_num_threads(1);
        }
        // Mean and deviation of each fold's members, in units of the targets.
        let mut means: Vec<Vec<Vec<f64>>> = Vec::new();
        let mut spreads: Vec<Vec<Vec<f64>>> = Vec::new();
        for (fold, members) in self.description.folds.iter().zip(&self.members) {
            let outputs: Vec<Vec<Vec<f64>>> = members
                .iter()
                .map(|member| {
                    let wild_type = wild_type.map(|w| match w.kind() {
                        Kind::Half => w.to_kind(Kind::Float),
                        _ => w.shallow_clone(),
                    });
                    let network = Network::Lyra(Box::new(member.shallow_clone()), wild_type);
                    trainer::predict(&network, inputs, task, &rows, parallel)
                })
                .collect();
            let (mut values, mut spread) = ensemble(&outputs.iter().collect::<Vec<_>>());
            if task == Task::Regression {
                for (row, values) in values.iter_mut().enumerate() {
                    for (k, scale) in fold.scales.iter().enumerate() {
                        values[k] = scale.backward(values[k]);
                        if let Some(spread) = spread.get_mut(row) {
                            spread[k] = width(scale, values[k], spread[k]);
                        }
                    }
                }
            }
            means.push(values);
            spreads.push(spread);
        }
        let of = |row: usize| {
            let outputs = means[0][row].len();
            let mut predicted = Predicted {
                values: Vec::with_capacity(outputs),
                deviations: Vec::with_capacity(outputs),
            };
            for k in 0..outputs {
                let centres: Vec<f64> = means.iter().map(|fold| fold[row][k]).collect();
                let within: Vec<f64> = spreads
                    .iter()
                    .filter_map(|fold| fold.get(row).map(|spread| spread[k].powi(2)))
                    .collect();
                let within = if within.is_empty() {
                    0.0
                } else {
                    mean(&within)
                };
                predicted.values.push(mean(&centres));
                // Within folds and between them.
                predicted
                    .deviations
                    .push((within + deviation(&centres).powi(2)).sqrt());
            }
            predicted
        };
        rows.iter().map(|&row| of(row)).collect()
    }
}
