//! Global epistasis: an additive latent trait behind one monotone curve.

use cistron_model::lyra::Group;
use tch::{Device, Kind, Tensor};

/// Steps that the curve is made of.
const STEPS: i64 = 8;

/// `y = c + s φ + Σ_k h_k tanh(r_k φ + t_k)` with `φ = Σ_i w[i, x_i]` and s, h, r above zero.
#[derive(Debug)]
pub struct Global {
    letters: i64,
    weights: Tensor,
    slope: Tensor,
    heights: Tensor,
    rates: Tensor,
    shifts: Tensor,
    constant: Tensor,
}

impl Global {
    /// A network for sequences up to `length`.
    pub fn new(letters: i64, length: i64, outputs: i64, device: Device) -> Self {
        let float = (Kind::Float, device);
        let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
        Self {
            letters,
            // The last letter stands for none and has no weight of its own in `forward`.
            weights: leaf(Tensor::zeros([length * (letters + 1), outputs], float)),
            slope: leaf(Tensor::zeros([outputs], float)),
            heights: leaf(Tensor::full([STEPS, outputs], -2.0, float)),
            rates: leaf(Tensor::full([STEPS, outputs], 0.5, float)),
            shifts: leaf(
                Tensor::linspace(-3.0, 3.0, STEPS, float)
                    .unsqueeze(-1)
                    .repeat([1, outputs]),
            ),
            constant: leaf(Tensor::zeros([outputs], float)),
        }
    }

    /// Outputs `[B, outputs]` for letters `[B, L]`.
    pub fn forward(&self, letters: &Tensor) -> Tensor {
        let length = letters.size()[1];
        let places = Tensor::arange(length, (Kind::Int64, letters.device())) * (self.letters + 1);
        let trait_ = Tensor::embedding(&self.weights, &(letters + places), -1, false, false)
            .sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let steps = (trait_.unsqueeze(1) * self.rates.softplus() + &self.shifts).tanh();
        let curve = (steps * self.heights.softplus()).sum_dim_intlist(
            [1i64].as_slice(),
            false,
            Kind::Float,
        );
        &self.constant + self.slope.softplus() * trait_ + curve
    }

    /// Another handle on the same parameters.
    pub fn shallow_clone(&self) -> Self {
        Self {
            letters: self.letters,
            weights: self.weights.shallow_clone(),
            slope: self.slope.shallow_clone(),
            heights: self.heights.shallow_clone(),
            rates: self.rates.shallow_clone(),
            shifts: self.shifts.shallow_clone(),
            constant: self.constant.shallow_clone(),
        }
    }

    /// Its parameters.
    pub fn params(&self) -> Vec<(Tensor, Group)> {
        let weights = (self.weights.shallow_clone(), Group::Weight);
        let others = [
            &self.slope,
            &self.heights,
            &self.rates,
            &self.shifts,
            &self.constant,
        ];
        let others = others.map(|tensor| (tensor.shallow_clone(), Group::Plain));
        std::iter::once(weights).chain(others).collect()
    }
}
