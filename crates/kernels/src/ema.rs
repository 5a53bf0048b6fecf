//! The smoothing of H-Net's dechunk layer: an exponential moving average over chunks.

use tch::{Kind, Tensor};

use crate::Layout;
use crate::scan::Scan;

/// `z̄_j = p_j z_j + (1 - p_j) z̄_{j-1}` over each packed sequence (H-Net, eq. 5).
///
/// - `z`: `[chunks, width]`, `p`: `[chunks]` in `(0, 1]`, fp32
/// - `initial`: `[sequences, width]`, the average before the first chunk (zeros when absent)
///
/// Decays are taken in fp64: their logarithms sum over a chunk of the scan, and
/// fp32 would lose about five digits of them.
///
/// Returns `z̄` `[chunks, width]` and the last value of every sequence
/// `[sequences, width]` (`initial` where a sequence is empty).
pub fn smooth(
    z: &Tensor,
    p: &Tensor,
    layout: &Layout,
    initial: Option<&Tensor>,
) -> (Tensor, Tensor) {
    let width = z.size()[1];
    // The floor keeps the gradient finite where p = 1, which forgets all before it.
    let keep: Tensor = 1.0 - p.to_kind(Kind::Double);
    let log_decay = keep.clamp_min(1e-9).log();
    let padded = layout.pad(&z.to_kind(Kind::Float));
    let ones = Tensor::ones(
        [layout.sequences(), layout.max(), 1],
        (Kind::Float, z.device()),
    );
    let scan = Scan {
        log_decay: &layout.pad(&log_decay).unsqueeze(-1),
        weight: &layout.pad(p).unsqueeze(-1),
        x: &padded.unsqueeze(2),
        b: &ones,
        c: &ones,
    };
    let initial = initial.map(|initial| initial.reshape([-1, 1, width, 1]));
    let (y, last) = scan.run(initial.as_ref());
    (layout.unpad(&y.squeeze_dim(2)), last.reshape([-1, width]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn known_values() {
        let p = Tensor::from_slice(&[0.9999f32, 0.9, 0.5, 0.7]);
        let z = Tensor::from_slice(&[1.0f32, 2.0, -1.0, 4.0]).unsqueeze(1);
        let (smoothed, last) = smooth(&z, &p, &Layout::new(&[4], Device::Cpu), None);
        let got = Vec::<f32>::try_from(smoothed.squeeze_dim(1)).expect("f32");
        for (got, expected) in got.iter().zip([0.9999, 1.89999, 0.449995, 2.9349985]) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        assert!((last.double_value(&[0, 0]) - 2.934_998_5).abs() < 1e-5);
    }

    #[test]
    fn ragged_sequences_carry_their_own_average() {
        let options = (Kind::Float, Device::Cpu);
        let layout = Layout::new(&[70, 0, 3], Device::Cpu);
        let p = Tensor::rand([73], options) * 0.98 + 0.01;
        let z = Tensor::randn([73, 4], options);
        let initial = Tensor::randn([3, 4], options);
        let (smoothed, last) = smooth(&z, &p, &layout, Some(&initial));
        for row in 0..3i64 {
            let mut average = initial.get(row);
            for t in layout.offsets()[row as usize]..layout.offsets()[row as usize + 1] {
                average = z.get(t) * p.get(t) + average * (1.0 - p.get(t));
                assert!((smoothed.get(t) - &average).abs().max().double_value(&[]) < 1e-5);
            }
            assert!((last.get(row) - average).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
