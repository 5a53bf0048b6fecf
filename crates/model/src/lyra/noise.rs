//! Dropout with a stream of its own.

use std::cell::RefCell;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

/// Says which channels are left out in training. The same seed leaves out the same ones, whatever
/// else the process does: networks that are trained side by side do not share a generator.
#[derive(Debug)]
pub struct Noise(RefCell<ChaCha8Rng>);

impl Noise {
    /// A stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(RefCell::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// `shape`: 0 with chance `rate`, else 1/(1 - rate).
    pub fn mask(&self, shape: &[i64], rate: f64, device: Device) -> Tensor {
        let count = shape.iter().product::<i64>() as usize;
        let mut bytes = vec![0u8; 2 * count];
        self.0.borrow_mut().fill_bytes(&mut bytes);
        let limit = (rate * 65_536.0).round() as u32;
        let scale = (1.0 / (1.0 - rate)) as f32;
        let values: Vec<f32> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&pair| u32::from(u16::from_le_bytes(pair)))
            .map(|value| if value < limit { 0.0 } else { scale })
            .collect();
        Tensor::from_slice(&values).reshape(shape).to_device(device)
    }
}
