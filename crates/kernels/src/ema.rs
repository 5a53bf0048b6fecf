//! The smoothing of H-Net's dechunk layer: an exponential moving average over chunks.

use tch::{Kind, Tensor};

use crate::Layout;

/// Chunks handled as one matrix product.
const BLOCK: i64 = 64;

/// `z̄_j = p_j z_j + (1 - p_j) z̄_{j-1}` over each packed sequence (H-Net, eq. 5).
///
/// - `z`: `[chunks, width]`, `p`: `[chunks]` in `(0, 1]`, fp32
/// - `initial`: `[sequences, width]`, the average before the first chunk (zeros when absent)
///
/// Decays are taken in fp64: their logarithms sum over a block, and fp32 would lose
/// about five digits of them.
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
    let log_keep = keep.clamp_min(1e-9).log();
    let initial = initial.map_or_else(
        || Tensor::zeros([layout.sequences(), width], (Kind::Float, z.device())),
        |initial| initial.to_kind(Kind::Float),
    );
    if layout.total() == 0 {
        return (z.to_kind(Kind::Float), initial);
    }
    // Padding has log-decay and weight zero: it carries the average on.
    let y = recurrence(
        &layout.pad(&log_keep),
        &layout.pad(&p.to_kind(Kind::Float)),
        &layout.pad(&z.to_kind(Kind::Float)),
        &initial,
    );
    let last = y.select(1, layout.max() - 1);
    (layout.unpad(&y), last)
}

/// `y_t = e^{a_t} y_{t-1} + w_t x_t` from `y_{-1} = initial`: `a` (fp64) and `w` `[s, length]`,
/// `x` `[s, length, width]`, `initial` `[s, width]`, to `[s, length, width]`.
///
/// Within blocks this is a matrix product; what blocks hand on is the same recurrence, a
/// block a step.
fn recurrence(a: &Tensor, w: &Tensor, x: &Tensor, initial: &Tensor) -> Tensor {
    let (sequences, length, width) = x.size3().expect("x is [sequences, length, width]");
    let block = BLOCK.min(length);
    let blocks = length.div_euclid(block) + i64::from(length % block > 0);
    let excess = blocks * block - length;
    let split = |t: &Tensor| {
        t.constant_pad_nd([0, excess])
            .reshape([sequences * blocks, block])
    };
    let decay = split(a).cumsum(1, None);
    let above = Tensor::ones([block, block], (Kind::Bool, x.device())).triu(1);
    let mixing = (decay.unsqueeze(2) - decay.unsqueeze(1))
        .masked_fill(&above, f64::NEG_INFINITY)
        .exp()
        .to_kind(Kind::Float)
        * split(w).unsqueeze(1);
    let x = x
        .constant_pad_nd([0, 0, 0, excess])
        .reshape([sequences * blocks, block, width]);
    let within = mixing.matmul(&x);
    let before = if blocks == 1 {
        initial.shallow_clone()
    } else {
        let shape = [sequences, blocks];
        let total = decay.select(1, block - 1).reshape(shape);
        let ends = within
            .select(1, block - 1)
            .reshape([sequences, blocks, width]);
        let ones = Tensor::ones(shape, (Kind::Float, x.device()));
        let after = recurrence(&total, &ones, &ends, initial);
        let first = initial.unsqueeze(1);
        Tensor::cat(&[&first, &after.narrow(1, 0, blocks - 1)], 1).reshape([-1, width])
    };
    let from_start = decay.exp().to_kind(Kind::Float);
    within
        .addcmul(&before.unsqueeze(1), &from_start.unsqueeze(2))
        .reshape([sequences, blocks * block, width])
        .narrow(1, 0, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
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
        let _held = seeded(1);
        let options = (Kind::Float, Device::Cpu);
        // Blocks of blocks, and a rest.
        let layout = Layout::new(&[4500, 0, 3], Device::Cpu);
        let p = Tensor::rand([4503], options) * 0.98 + 0.01;
        let z = Tensor::randn([4503, 4], options);
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
