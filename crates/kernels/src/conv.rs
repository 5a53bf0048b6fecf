//! Causal depthwise convolution over packed sequences.

use tch::{Kind, Tensor};

use crate::Layout;

/// `y[t, c] = silu(bias[c] + Σ_k weight[c, k] x[t - width + 1 + k, c])` for a padded batch.
///
/// - `x`: `[sequences, length, channels]`
/// - `weight`: `[channels, 1, width]`, `bias`: `[channels]`
/// - `tail`: `[sequences, width - 1, channels]`, the inputs before the first token
///   (zeros when absent)
///
/// Returns `y` like `x`, and the input preceded by its tail, from which [`tail`]
/// takes the next one.
pub fn causal_conv1d_silu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    tail: Option<&Tensor>,
) -> (Tensor, Tensor) {
    let (sequences, length, channels) = x.size3().expect("x is [sequences, length, channels]");
    let width = weight.size()[2];
    let extended = match tail {
        Some(tail) => Tensor::cat(&[&tail.to_kind(x.kind()), x], 1),
        None => {
            let zeros = Tensor::zeros([sequences, width - 1, channels], (x.kind(), x.device()));
            Tensor::cat(&[&zeros, x], 1)
        }
    };
    let taps = weight.squeeze_dim(1).transpose(0, 1);
    let mut y = extended.narrow(1, 0, length) * taps.get(0) + bias;
    for k in 1..width {
        y = y.addcmul(&extended.narrow(1, k, length), &taps.get(k));
    }
    (y.silu().to_kind(x.kind()), extended)
}

/// The last `width - 1` inputs of every sequence: the `tail` for what follows.
///
/// `extended` is the second result of [`causal_conv1d_silu`].
pub fn tail(extended: &Tensor, layout: &Layout, width: i64) -> Tensor {
    let channels = extended.size()[2];
    let mut index = Vec::with_capacity(layout.lengths().len() * (width - 1) as usize);
    for &length in layout.lengths() {
        index.extend(length..length + width - 1);
    }
    let index = Tensor::from_slice(&index)
        .to_device(extended.device())
        .reshape([layout.sequences(), width - 1, 1])
        .expand([layout.sequences(), width - 1, channels], false);
    extended.gather(1, &index, false)
}

/// One step: `x` `[rows, channels]`, `tail` `[rows, width - 1, channels]`.
///
/// Returns the output `[rows, channels]` and the new tail.
pub fn step(x: &Tensor, weight: &Tensor, bias: &Tensor, tail: &Tensor) -> (Tensor, Tensor) {
    let width = weight.size()[2];
    let window = Tensor::cat(&[&tail.to_kind(x.kind()), &x.unsqueeze(1)], 1);
    let taps = weight.squeeze_dim(1).transpose(0, 1).unsqueeze(0);
    let y = (&window * taps).sum_dim_intlist([1i64].as_slice(), false, Kind::Float) + bias;
    (y.silu().to_kind(x.kind()), window.narrow(1, 1, width - 1))
}
