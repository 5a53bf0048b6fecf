//! A small convolutional network, as baselines go.

use cistron_model::lyra::Group;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Letters that a filter sees.
const TAPS: i64 = 5;

/// Two convolutions with ReLU, then mean and maximum over positions, then a linear layer.
#[derive(Debug)]
pub struct Cnn {
    letters: i64,
    first: (Tensor, Tensor),
    second: (Tensor, Tensor),
    output: (Tensor, Tensor),
}

impl Cnn {
    /// A network of about `size` parameters.
    pub fn new(letters: i64, outputs: i64, size: usize, seed: u64, device: Device) -> Self {
        // size = TAPS letters C + C + TAPS C² + C + 2 C outputs + outputs
        let linear = (TAPS * letters + 2 + 2 * outputs) as f64;
        let square = TAPS as f64;
        let constant = outputs as f64 - size as f64;
        let root = (linear * linear - 4.0 * square * constant).max(0.0).sqrt();
        let channels = (((root - linear) / (2.0 * square)).round() as i64).max(4);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0063_6e6e);
        let mut draw = |shape: &[i64], fan: i64| {
            let bound = (fan as f64).powf(-0.5) as f32;
            let count = shape.iter().product::<i64>();
            let values: Vec<f32> = (0..count).map(|_| rng.gen_range(-bound..bound)).collect();
            Tensor::from_slice(&values)
                .reshape(shape)
                .to_device(device)
                .set_requires_grad(true)
        };
        let mut pair = |shape: &[i64]| {
            let fan = shape[1..].iter().product();
            (draw(shape, fan), draw(&shape[..1], fan))
        };
        Self {
            letters,
            first: pair(&[channels, letters, TAPS]),
            second: pair(&[channels, channels, TAPS]),
            output: pair(&[outputs, 2 * channels]),
        }
    }

    /// Outputs `[B, outputs]` for letters `[B, L]`.
    pub fn forward(&self, letters: &Tensor) -> Tensor {
        let one_hot = letters
            .one_hot(self.letters + 1)
            .narrow(-1, 0, self.letters);
        let mut x = one_hot.to_kind(Kind::Float).transpose(1, 2);
        for ((weight, bias), stride) in [(&self.first, 1), (&self.second, 2)] {
            x = x.conv1d(weight, Some(bias), stride, TAPS / 2, 1, 1).relu();
        }
        let mean = x.mean_dim([-1i64].as_slice(), false, Kind::Float);
        let highest = x.amax([-1i64].as_slice(), false);
        Tensor::cat(&[mean, highest], 1).linear(&self.output.0, Some(&self.output.1))
    }

    /// Another handle on the same parameters.
    pub fn shallow_clone(&self) -> Self {
        let clone =
            |(weight, bias): &(Tensor, Tensor)| (weight.shallow_clone(), bias.shallow_clone());
        Self {
            letters: self.letters,
            first: clone(&self.first),
            second: clone(&self.second),
            output: clone(&self.output),
        }
    }

    /// Its parameters.
    pub fn params(&self) -> Vec<(Tensor, Group)> {
        [&self.first, &self.second, &self.output]
            .into_iter()
            .flat_map(|(weight, bias)| {
                [
                    (weight.shallow_clone(), Group::Weight),
                    (bias.shallow_clone(), Group::Plain),
                ]
            })
            .collect()
    }
}
