//! Sampling: temperature, top-k and top-p, reproducible by seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::decode::{Decoder, MASKED_ROWS};
use crate::error::ModelError;
use crate::hnet::HNet;
use crate::state::State;

/// How tokens are drawn.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// Divides the scores; 0 takes the most likely token.
    pub temperature: f64,
    /// Draw from this many most likely tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the fewest tokens whose probabilities reach this sum.
    pub top_p: f64,
    /// Start of the random stream; each sequence has its own.
    pub seed: u64,
    /// Tokens that may be drawn; all when empty.
    pub allowed: Vec<u8>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            allowed: Vec::new(),
        }
    }
}

/// Continues each prompt by `length` tokens (fewer where `stop` is drawn, which is left out).
///
/// Prompts are tokens with BOS first, and must not be empty. A sequence's
/// continuation depends on the seed and its place, not on the other prompts.
///
/// # Errors
///
/// A prompt is empty, or a setting is outside its range.
pub fn generate(
    model: &HNet,
    prompts: &[Vec<u8>],
    length: usize,
    stop: Option<u8>,
    sampling: &Sampling,
) -> Result<Vec<Vec<u8>>, ModelError> {
    if let Some(empty) = prompts.iter().position(Vec::is_empty) {
        return Err(ModelError::config(
            "prompt",
            format!("prompt {} is empty", empty + 1),
        ));
    }
    if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
        return Err(ModelError::config("temperature", "expected 0 or more"));
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return Err(ModelError::config(
            "top_p",
            "expected more than 0 and at most 1",
        ));
    }
    let _guard = tch::no_grad_guard();
    let lengths: Vec<i64> = prompts.iter().map(|prompt| prompt.len() as i64).collect();
    let tokens: Vec<i64> = prompts
        .iter()
        .flatten()
        .map(|&token| i64::from(token))
        .collect();
    let (output, state) = model.forward_from(&Tensor::from_slice(&tokens), &lengths, None);
    let ends: Vec<i64> = lengths
        .iter()
        .scan(0, |end, length| {
            *end += length;
            Some(*end - 1)
        })
        .collect();
    let ends = Tensor::from_slice(&ends).to_device(model.device());
    let mut logits = output.logits.index_select(0, &ends);
    let mut steps = Steps::new(model, state, length);
    let mut streams: Vec<ChaCha8Rng> = (0..prompts.len() as u64)
        .map(|row| {
            let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
            rng.set_stream(row);
            rng
        })
        .collect();
    let mut sequences = vec![Vec::with_capacity(length); prompts.len()];
    let mut running = vec![true; prompts.len()];
    for _ in 0..length {
        let scores =
            Vec::<Vec<f64>>::try_from(logits.to_kind(Kind::Double).to_device(tch::Device::Cpu))?;
        let drawn: Vec<u8> = scores
            .iter()
            .zip(&mut streams)
            .map(|(row, rng)| draw(row, sampling, rng))
            .collect();
        for ((sequence, running), &token) in sequences.iter_mut().zip(&mut running).zip(&drawn) {
            *running &= Some(token) != stop;
            if *running {
                sequence.push(token);
            }
        }
        if running.iter().all(|running| !running) {
            break;
        }
        let tokens: Vec<i64> = drawn.iter().map(|&token| i64::from(token)).collect();
        logits = steps.next(&Tensor::from_slice(&tokens), &running);
    }
    Ok(sequences)
}

/// How sequences go on by a token.
enum Steps<'a> {
    /// Inner stages run for the rows that start a chunk: the CPU's time goes with arithmetic.
    Asking(&'a HNet, State),
    /// All stages run for all rows, in one launch.
    Masked(Box<Decoder<'a>>),
}

impl<'a> Steps<'a> {
    fn new(model: &'a HNet, state: State, length: usize) -> Self {
        if model.device().is_cuda() && state.sequences() <= MASKED_ROWS {
            Self::Masked(Box::new(Decoder::new(model, &state, length)))
        } else {
            Self::Asking(model, state)
        }
    }

    /// Scores after `tokens`; those of sequences that do not run mean nothing.
    fn next(&mut self, tokens: &Tensor, running: &[bool]) -> Tensor {
        match self {
            Self::Asking(model, state) => model.step(tokens, state),
            Self::Masked(decoder) => {
                decoder.run(running);
                decoder.step(tokens)
            }
        }
    }
}

fn draw(scores: &[f64], sampling: &Sampling, rng: &mut ChaCha8Rng) -> u8 {
    let allowed = |token: &usize| {
        sampling.allowed.is_empty() || sampling.allowed.iter().any(|&a| usize::from(a) == *token)
    };
    let mut ranked: Vec<usize> = (0..scores.len().min(256)).filter(allowed).collect();
    // Ties go to the lower token, so that the order is the same everywhere.
    ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let uniform: f64 = rng.r#gen();
    if sampling.temperature == 0.0 {
        return ranked[0] as u8;
    }
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let weight =
        |&token: &usize| ((scores[token] - scores[ranked[0]]) / sampling.temperature).exp();
    let mut weights: Vec<f64> = ranked.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let enough = weights.iter().position(|weight| {
        kept += weight / total;
        kept >= sampling.top_p
    });
    weights.truncate(enough.map_or(weights.len(), |last| last + 1));
    let mut left = uniform * weights.iter().sum::<f64>();
    let chosen = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    ranked[chosen.unwrap_or(weights.len() - 1)] as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(sampling: &Sampling) -> [usize; 3] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[usize::from(draw(&[0.0, 4f64.ln(), 3f64.ln()], sampling, &mut rng))] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_distribution_and_its_cuts() {
        let all = frequencies(&Sampling::default());
        assert!((all[1] as f64 / 3000.0 - 0.5).abs() < 0.03, "{all:?}");
        assert_eq!(
            frequencies(&Sampling {
                top_k: 2,
                ..Sampling::default()
            })[0],
            0
        );
        assert_eq!(
            frequencies(&Sampling {
                top_p: 0.6,
                ..Sampling::default()
            })[0],
            0
        );
        assert_eq!(
            frequencies(&Sampling {
                temperature: 0.0,
                ..Sampling::default()
            }),
            [0, 3000, 0]
        );
        assert_eq!(
            frequencies(&Sampling {
                allowed: vec![0],
                ..Sampling::default()
            }),
            [3000, 0, 0]
        );
    }
}
