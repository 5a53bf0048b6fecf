//! Rotary position embedding, half-split ("NeoX") layout on the leading channels.

use std::sync::Mutex;

use tch::{Device, Kind, Tensor};

use crate::device;

/// Base of the frequencies.
const BASE: f64 = 10_000.0;

/// Frequency of each pair: fp32 `[rotary_dim / 2]`.
fn frequencies(rotary_dim: i64, device: Device) -> Tensor {
    let exponent =
        Tensor::arange(rotary_dim / 2, (Kind::Float, device)) * (2.0 / rotary_dim as f64);
    (exponent * -BASE.ln()).exp()
}

/// [`frequencies`], made once for each size and device.
fn kept_frequencies(rotary_dim: i64, device: Device) -> Tensor {
    static KEPT: Mutex<Vec<(i64, Device, Tensor)>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().expect("making a table does not panic");
    if let Some((.., table)) = kept
        .iter()
        .find(|(dim, place, _)| *dim == rotary_dim && *place == device)
    {
        return table.shallow_clone();
    }
    let table = tch::no_grad(|| frequencies(rotary_dim, device));
    kept.push((rotary_dim, device, table.shallow_clone()));
    table
}

/// Rotated queries and keys, and values: `[tokens, heads, head_dim]` each, from their
/// projection `[tokens, 3, heads, head_dim]`. See [`rotate`].
///
/// In bf16 on CUDA one kernel each way, for head sizes that are multiples of 8 and rotary
/// sizes that are multiples of 16.
pub fn rotate_joined(joined: &Tensor, positions: &Tensor, rotary_dim: i64) -> [Tensor; 3] {
    let fused = device::usable(joined)
        && joined.kind() == Kind::BFloat16
        && joined.size()[3] % 8 == 0
        && rotary_dim % 16 == 0;
    if fused {
        let frequency = kept_frequencies(rotary_dim, joined.device());
        let inputs = [Some(joined), Some(&frequency), Some(positions)];
        return device::call(device::cistron_rotary, &inputs, &[]);
    }
    // Taken apart at once: the gradient is put together at once, too.
    let parts = joined.unbind(1);
    let turned = |i: usize| rotate(&parts[i], positions, rotary_dim);
    [turned(0), turned(1), parts[2].shallow_clone()]
}

/// Rotates the first `rotary_dim` channels of `x` `[tokens, heads, head_dim]` by
/// its token's position `[tokens]` (any integer kind); the others pass through.
///
/// Channel `i < rotary_dim / 2` is paired with `i + rotary_dim / 2`, at frequency
/// `10000^(-2 i / rotary_dim)`. Angles are fp32.
pub fn rotate(x: &Tensor, positions: &Tensor, rotary_dim: i64) -> Tensor {
    if rotary_dim == 0 {
        return x.shallow_clone();
    }
    let half = rotary_dim / 2;
    let angle = positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies(rotary_dim, x.device());
    let (cos, sin) = (angle.cos().unsqueeze(1), angle.sin().unsqueeze(1));
    let (cos, sin) = (cos.to_kind(x.kind()), sin.to_kind(x.kind()));
    let head_dim = x.size()[2];
    let (a, b) = (x.narrow(2, 0, half), x.narrow(2, half, half));
    Tensor::cat(
        &[
            &a * &cos - &b * &sin,
            &a * &sin + &b * &cos,
            x.narrow(2, rotary_dim, head_dim - rotary_dim),
        ],
        2,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;

    #[test]
    fn scores_depend_on_relative_position_only() {
        let _held = seeded(1);
        let q = Tensor::randn([1, 1, 8], (Kind::Float, Device::Cpu));
        let k = Tensor::randn([1, 1, 8], (Kind::Float, Device::Cpu));
        let score = |i: i64, j: i64| {
            let (i, j) = (Tensor::from_slice(&[i]), Tensor::from_slice(&[j]));
            (rotate(&q, &i, 4) * rotate(&k, &j, 4))
                .sum(Kind::Double)
                .double_value(&[])
        };
        assert!((score(7, 3) - score(104, 100)).abs() < 1e-4);
        assert!((score(7, 3) - score(8, 3)).abs() > 1e-4);
    }
}
