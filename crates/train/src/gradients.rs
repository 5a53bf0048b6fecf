//! The gradient of all parameters together.

use cistron_kernels::optimizer;
use tch::{Device, Kind, Tensor};

/// Euclidean norm over all values of all gradients: an fp64 scalar on their device.
pub fn global_norm(gradients: &[Tensor]) -> Tensor {
    if gradients.is_empty() {
        return Tensor::zeros([], (Kind::Double, Device::Cpu));
    }
    if gradients[0].device().is_cuda() {
        return optimizer::norms(gradients).to_kind(Kind::Double).norm();
    }
    let norms: Vec<Tensor> = gradients
        .iter()
        .map(|gradient| gradient.norm().to_kind(Kind::Double))
        .collect();
    Tensor::stack(&norms, 0).norm()
}

/// Scales the gradients so that their global norm, `norm`, is at most `limit`.
/// A limit of 0 is none.
pub fn clip(gradients: &[Tensor], norm: f64, limit: f64) {
    if limit > 0.0 && norm > limit {
        if gradients.first().is_some_and(|g| g.device().is_cuda()) {
            return optimizer::scale(gradients, limit / norm);
        }
        for gradient in gradients {
            let _ = gradient.shallow_clone().g_mul_scalar_(limit / norm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(gradients: &[Tensor]) -> f64 {
        global_norm(gradients).double_value(&[])
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let gradients = [
            Tensor::from_slice(&[3f32, 0.0]),
            Tensor::from_slice(&[4f32]),
        ];
        assert!((norm(&gradients) - 5.0).abs() < 1e-12);
        clip(&gradients, 5.0, 10.0);
        assert!((norm(&gradients) - 5.0).abs() < 1e-12);
        clip(&gradients, 5.0, 0.0);
        assert!((norm(&gradients) - 5.0).abs() < 1e-12);
        clip(&gradients, 5.0, 1.0);
        assert!((norm(&gradients) - 1.0).abs() < 1e-6);
        assert!((gradients[0].double_value(&[0]) - 0.6).abs() < 1e-6);
    }

    #[test]
    fn lists_are_as_their_tensors() {
        let gradients = [
            Tensor::from_slice(&[3f32, 0.0]),
            Tensor::from_slice(&[4f32]),
        ];
        let norms = Vec::<f32>::try_from(optimizer::norms(&gradients)).unwrap();
        assert_eq!(norms, [3.0, 4.0]);
        optimizer::scale(&gradients, 0.5);
        assert_eq!(gradients[1].double_value(&[0]), 2.0);
    }

    #[test]
    fn what_is_no_number_shows_in_the_norm() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(!norm(&[Tensor::from_slice(&[1.0, bad])]).is_finite());
        }
    }
}
