//! The ratio loss that steers how often a router cuts (H-Net, eq. 10).

use tch::{Kind, Tensor};

use crate::Routing;

/// Selected fraction and mean probability of one stage.
#[derive(Debug)]
pub struct RatioStatistics {
    /// F: the share of tokens that start a chunk; a constant to the gradient. fp32 scalar.
    pub selected: Tensor,
    /// G: the mean probability. fp32 scalar.
    pub probability: Tensor,
}

impl RatioStatistics {
    /// Over all tokens of a batch.
    pub fn of(routing: &Routing) -> Self {
        Self {
            selected: routing.mask.to_kind(Kind::Float).mean(Kind::Float).detach(),
            probability: routing.prob.mean(Kind::Float),
        }
    }

    /// `N/(N-1) · ((N-1) F G + (1-F)(1-G))`, which is 1 at `F = G = 1/N`.
    pub fn loss(&self, n: f64) -> Tensor {
        let (f, g) = (&self.selected, &self.probability);
        let apart: Tensor = (1.0 - f) * (1.0 - g);
        (f * g * (n - 1.0) + apart) * (n / (n - 1.0))
    }
}

/// The ratio loss of one stage for a target of one chunk in `n` tokens.
pub fn ratio_loss(routing: &Routing, n: f64) -> Tensor {
    RatioStatistics::of(routing).loss(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        let cases = [
            (0.35, 0.32, 3.0, 0.9990),
            (0.3833, 0.2833, 3.0, 0.98875),
            (1.0, 1.0, 3.0, 3.0),
            (0.4, 0.6, 6.0, 1.728),
        ];
        for (f, g, n, expected) in cases {
            let statistics = RatioStatistics {
                selected: Tensor::from(f as f32),
                probability: Tensor::from(g as f32),
            };
            let loss = statistics.loss(n).double_value(&[]);
            assert!((loss - expected).abs() < 2e-4, "{f} {g} {n}: {loss}");
        }
    }

    #[test]
    fn gradient_reaches_the_probability_alone() {
        let g = Tensor::from(0.5f32).set_requires_grad(true);
        let statistics = RatioStatistics {
            selected: Tensor::from(0.5f32),
            probability: g.shallow_clone(),
        };
        statistics.loss(3.0).backward();
        assert!((g.grad().double_value(&[]) - 0.75).abs() < 1e-6);
    }
}
