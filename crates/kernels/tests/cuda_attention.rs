//! Flash attention over packed sequences against the plain form in fp64.

use std::sync::Arc;

use cistron_draws::seeded;
use cistron_kernels::checkpoint::gradients;
use cistron_kernels::{Layout, attention, runtime};
use tch::{Device, Kind, Tensor};

const HEADS: i64 = 3;

fn device() -> Option<Device> {
    let device = (runtime::cuda_devices() > 0).then_some(Device::Cuda(0));
    if device.is_none() {
        eprintln!("no CUDA device: nothing is tested");
    }
    device
}

/// Root mean square of the difference over that of what is expected.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let square = |t: &Tensor| t.square().mean(Kind::Double).double_value(&[]);
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    (square(&(found - &expected)) / square(&expected).max(1e-12)).sqrt()
}

fn plain(t: &[Tensor], layout: &Layout, window: i64) -> Tensor {
    let padded = |t: &Tensor| layout.pad(t).transpose(1, 2);
    let y = attention::causal(&padded(&t[0]), &padded(&t[1]), &padded(&t[2]), window);
    layout.unpad(&y.transpose(1, 2))
}

fn inputs(layout: &Arc<Layout>, head_dim: i64) -> Vec<Tensor> {
    // Slices of one projection, as in a model.
    let shape = [layout.total(), 3, HEADS, head_dim];
    Tensor::randn(shape, (Kind::BFloat16, layout.device())).unbind(1)
}

fn leaves(tensors: &[Tensor], kind: Kind) -> Vec<Tensor> {
    tensors
        .iter()
        .map(|t| t.detach().to_kind(kind).set_requires_grad(true))
        .collect()
}

#[test]
fn packed_attention_is_the_plain_form() {
    let Some(device) = device() else { return };
    let _held = seeded(1);
    for lengths in [vec![1], vec![0, 300, 1, 17, 0], vec![700, 64]] {
        let layout = Layout::new(&lengths, device);
        for (head_dim, window) in [(64, -1), (64, 3), (40, 100), (128, 0), (256, -1)] {
            let bf16 = inputs(&layout, head_dim);
            let exact = leaves(&bf16, Kind::Double);
            let flash = leaves(&bf16, Kind::BFloat16);
            let slow = leaves(&bf16, Kind::BFloat16);
            assert!(attention::flash_supported(&flash[0]));
            let expected = plain(&exact, &layout, window);
            let found = attention::packed(&flash[0], &flash[1], &flash[2], &layout, window);
            let rounded = plain(&slow, &layout, window);
            let what = format!("{lengths:?} {head_dim} {window}");
            let (of, limit) = (error(&found, &expected), error(&rounded, &expected));
            assert!(of <= 2.0 * limit + 2e-3, "{what}: {of} {limit}");
            let direction = expected.randn_like();
            let low = direction.to_kind(Kind::BFloat16);
            let expected = gradients(&expected, &direction, &exact).expect("a graph");
            let found = gradients(&found, &low, &flash).expect("a graph");
            let rounded = gradients(&rounded, &low, &slow).expect("a graph");
            for ((expected, found), rounded) in expected.iter().zip(&found).zip(&rounded) {
                let (of, limit) = (error(found, expected), error(rounded, expected));
                assert!(of <= 2.0 * limit + 5e-3, "{what}: gradient {of} {limit}");
            }
        }
    }
}

/// Queries after keys that were there before stand at the end of their keys.
#[test]
fn queries_stand_at_the_end_of_their_keys() {
    let Some(device) = device() else { return };
    let _held = seeded(2);
    let (before, new) = ([5, 0, 40], [7, 3, 1]);
    let queries = Layout::new(&new, device);
    let all: Vec<i64> = before.iter().zip(&new).map(|(a, b)| a + b).collect();
    let keys = Layout::new(&all, device);
    for window in [-1, 4] {
        let whole = inputs(&keys, 64);
        let expected = attention::packed(&whole[0], &whole[1], &whole[2], &keys, window);
        let tail = |t: &Tensor| {
            let parts: Vec<Tensor> = (0..3)
                .map(|row| t.narrow(0, keys.offsets()[row] + before[row], new[row]))
                .collect();
            Tensor::cat(&parts, 0)
        };
        let found = attention::flash(
            &tail(&whole[0]),
            &whole[1],
            &whole[2],
            &queries,
            &keys,
            window,
        );
        assert!(error(&found, &tail(&expected)) < 4e-3);
    }
}
