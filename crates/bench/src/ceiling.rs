//! What the machine can do at best.

use cistron_model::Precision;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::timing::Clock;

/// Measured ceilings of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceiling {
    /// Bytes read and written by a large copy within device memory, a second.
    pub copy_bytes_per_second: f64,
    /// Operations of a large matrix product, a second: 8192 cubed on a GPU, 1024 cubed on
    /// the CPU, in the precision of the measurement.
    pub matrix_flops_per_second: f64,
}

impl Ceiling {
    /// Measures both.
    pub fn measure(clock: &Clock, precision: Precision) -> Self {
        let _guard = tch::no_grad_guard();
        let (edge, bytes): (i64, i64) = match clock.device {
            Device::Cuda(_) => (8192, 4 << 30),
            _ => (1024, 64 << 20),
        };
        let source = Tensor::zeros([bytes], (Kind::Uint8, clock.device));
        let mut target = source.zeros_like();
        let copy = clock.time(|| target.copy_(&source)).median;
        drop((source, target));
        let options = (precision.kind(), clock.device);
        let (a, b) = (
            Tensor::randn([edge, edge], options),
            Tensor::randn([edge, edge], options),
        );
        let product = clock.time(|| drop(a.matmul(&b))).median;
        Self {
            copy_bytes_per_second: 2.0 * bytes as f64 / copy,
            matrix_flops_per_second: 2.0 * (edge as f64).powi(3) / product,
        }
    }
}
