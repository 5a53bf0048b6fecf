//! bf16 on CUDA, with kernels where there are any, against fp32 on the CPU.

use std::path::Path;

use cistron_kernels::{attention, runtime};
use cistron_model::{Checkpointing, Compute, Config, Every, HNet, Precision, State, ratio_loss};
use tch::{Device, Kind, Tensor};

const LENGTHS: [i64; 4] = [900, 1, 0, 370];

fn device() -> Option<Device> {
    let device = (runtime::cuda_devices() > 0).then_some(Device::Cuda(0));
    if device.is_none() {
        eprintln!("no CUDA device: nothing is tested");
    }
    device
}

fn model(device: Device) -> HNet {
    let text = r#"{"arch_layout": ["m2", ["T1m1", ["T2M1"], "m1T1"], "m2"],
        "d_model": [128, 192, 256], "d_intermediate": [0, 512, 640], "vocab_size": 8,
        "ssm_cfg": {"d_state": 128, "headdim": 64},
        "attn_cfg": {"num_heads": [2, 3, 4], "rotary_emb_dim": 32, "window_size": [63, 63, -1]}}"#;
    let config = Config::from_json(text, Path::new("config.json")).expect("valid");
    HNet::new(&config, 3, device).expect("valid")
}

fn tokens() -> Tensor {
    let total: i64 = LENGTHS.iter().sum();
    let bases: Vec<i64> = (0..total).map(|i| i * i * 7 % 31 % 4).collect();
    Tensor::from_slice(&bases)
}

/// Loss and gradients, with the same chunks whatever the rounding.
fn gradients(device: Device, precision: Precision, every: Every) -> (f64, Vec<(String, Tensor)>) {
    let model = model(device).with_compute(Compute {
        precision,
        checkpointing: Checkpointing::Every(every),
        selection: vec![0.34, 0.5],
    });
    let tokens = tokens().to_device(device);
    let output = model.forward(&tokens, &LENGTHS);
    let ratios = output
        .routing
        .iter()
        .map(|routing| ratio_loss(routing, 3.0));
    let targets = tokens.roll([-1], [0]);
    let loss = output.logits.cross_entropy_for_logits(&targets) + ratios.sum::<Tensor>() * 0.1;
    loss.backward();
    let gradients = model
        .params()
        .iter()
        .map(|(name, param)| (name.to_owned(), param.tensor.grad().to_device(Device::Cpu)));
    (loss.double_value(&[]), gradients.collect())
}

/// Distance of all gradients together over their norm, and the worst single tensor.
fn apart(found: &[(String, Tensor)], expected: &[(String, Tensor)]) -> (f64, String) {
    let (mut distance, mut norm, mut worst) = (0.0, 0.0, (0.0, String::new()));
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        let square = |t: &Tensor| t.square().sum(Kind::Double).double_value(&[]);
        let (d, n) = (square(&(found - expected)), square(expected));
        let ratio = (d / n.max(1e-20)).sqrt();
        if ratio > worst.0 || ratio.is_nan() {
            worst = (ratio, format!("{name}: {ratio:.3}"));
        }
        distance += d;
        norm += n;
    }
    ((distance / norm).sqrt(), worst.1)
}

#[test]
fn gradients_on_cuda_are_near_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let (exact, expected) = gradients(Device::Cpu, Precision::Fp32, Every::None);
    let (rounded, on_cpu) = gradients(Device::Cpu, Precision::Bf16, Every::None);
    let (fp32, same) = gradients(device, Precision::Fp32, Every::None);
    let (bf16, found) = gradients(device, Precision::Bf16, Every::None);
    let (limit, _) = apart(&on_cpu, &expected);
    eprintln!("losses {exact} {rounded} {fp32} {bf16}; bf16 on the CPU is {limit:.4} away");
    assert!((exact - fp32).abs() < 1e-4, "{exact} {fp32}");
    assert!((exact - bf16).abs() < 0.02, "{exact} {bf16}");
    let (distance, worst) = apart(&same, &expected);
    assert!(distance < 1e-3, "fp32: {distance}, worst {worst}");
    let (distance, worst) = apart(&found, &expected);
    eprintln!("bf16 on CUDA is {distance:.4} away; worst {worst}");
    assert!(
        distance < (2.0 * limit).max(0.02),
        "bf16: {distance} {limit}, worst {worst}"
    );
    attention::reproducible(true);
    let (bf16, found) = gradients(device, Precision::Bf16, Every::None);
    let (once_more, same) = gradients(device, Precision::Bf16, Every::None);
    assert_eq!(bf16.to_bits(), once_more.to_bits());
    for ((name, found), (_, same)) in found.iter().zip(&same) {
        assert_eq!(found, same, "{name} differs from run to run");
    }
    // Only the order of a few sums may differ.
    let (again, recomputed) = gradients(device, Precision::Bf16, Every::All);
    let (distance, worst) = apart(&recomputed, &found);
    assert!((bf16 - again).abs() < 1e-5, "{bf16} {again}");
    assert!(distance < 2e-3, "recomputed: {distance}, worst {worst}");
}

/// Pieces with carried states, then steps, stay near the whole.
#[test]
fn states_continue_on_cuda() {
    let Some(device) = device() else { return };
    let _guard = tch::no_grad_guard();
    let model = model(device).for_inference(Precision::Bf16);
    let tokens = tokens().narrow(0, 0, 600).to_device(device);
    let whole = model.forward(&tokens, &[600]).logits;
    let mut state: Option<State> = None;
    let mut pieces = Vec::new();
    for (start, length) in [(0, 250), (250, 1), (251, 329)] {
        let piece = tokens.narrow(0, start, length);
        let (output, next) = model.forward_from(&piece, &[length], state.as_ref());
        pieces.push(output.logits);
        state = Some(next);
    }
    let mut state = state.expect("three pieces");
    for t in 580..600 {
        pieces.push(model.step(&tokens.narrow(0, t, 1), &mut state));
    }
    let apart = (Tensor::cat(&pieces, 0) - &whole).abs();
    assert!(apart.isfinite().all().int64_value(&[]) == 1);
    // A boundary may flip near the threshold, so only the bulk is held to rounding.
    let (median, scale) = (
        apart.median().double_value(&[]),
        whole.abs().mean(Kind::Double).double_value(&[]),
    );
    assert!(median < 0.02 * scale.max(0.5), "{median} {scale}");
}
