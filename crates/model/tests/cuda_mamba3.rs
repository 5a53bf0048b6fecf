//! Mamba-3 models on CUDA, in fp32 and with kernels in bf16, against fp32 and fp64 on the CPU.

use std::path::Path;

use cistron_draws::seeded;
use cistron_kernels::{Layout, runtime};
use cistron_model::config::mamba3::{DecayActivation, Mamba3Shape};
use cistron_model::decode::Decoder;
use cistron_model::mixer::Mamba3;
use cistron_model::mixer::mamba3::parity;
use cistron_model::{Compute, Config, HNet, Precision, State};
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
const LENGTHS: [i64; 4] = [700, 1, 0, 333];

fn device() -> Option<Device> {
    let device = (runtime::cuda_devices() > 0).then_some(Device::Cuda(0));
    if device.is_none() {
        eprintln!("no CUDA device: nothing is tested");
    }
    device
}

fn shape(rank: i64, states: i64, halves: bool) -> Mamba3Shape {
    Mamba3Shape {
        width: 96,
        heads: 3,
        head_dim: 64,
        states,
        groups: 1,
        rank,
        mimo: rank > 1,
        angles: states / 4,
        halves,
        norm: rank == 2,
        activation: DecayActivation::Softplus,
        floor: 1e-4,
    }
}

/// Parameters about as large as at the start of training, on the CPU in fp32.
fn parameters(shape: &Mamba3Shape) -> Vec<(&'static str, Tensor)> {
    tch::manual_seed(4);
    let draw = |(name, sizes): (&'static str, Vec<i64>)| {
        let noise = Tensor::randn(&sizes, FLOAT);
        let value = match name {
            "in_proj.weight" | "out_proj.weight" => noise * 0.1,
            "dt_bias" => noise * 0.5 - 3.0,
            _ => noise * 0.1 + 1.0,
        };
        // Exact in bf16, so that all sides have the same weights.
        (name, value.to_kind(Kind::BFloat16).to_kind(Kind::Float))
    };
    shape.parameters().into_iter().map(draw).collect()
}

/// Output, final memory, and gradients of the input, the initial memory and all parameters.
fn run(shape: &Mamba3Shape, device: Device, kind: Kind) -> Vec<(String, Tensor)> {
    let weights = if kind == Kind::Double {
        Kind::Double
    } else {
        Kind::Float
    };
    let place = |t: &Tensor| t.to_device(device).to_kind(weights).set_requires_grad(true);
    let params: Vec<(&str, Tensor)> = parameters(shape)
        .iter()
        .map(|(name, t)| (*name, place(t)))
        .collect();
    let mixer = Mamba3::new(shape.clone(), |name| {
        let found = params.iter().find(|(known, _)| *known == name);
        found.expect("known").1.shallow_clone()
    });
    tch::manual_seed(5);
    let total: i64 = LENGTHS.iter().sum();
    let u = Tensor::randn([total, 96], FLOAT).to_kind(Kind::BFloat16);
    let u = u.to_device(device).to_kind(kind).set_requires_grad(true);
    let memory = mixer
        .empty_memory(4, Device::Cpu)
        .map(|t| place(&(Tensor::randn(t.size(), FLOAT) * 0.3)));
    let layout = Layout::new(&LENGTHS, device);
    let (y, last) = mixer.run(&u, &layout, Some(&memory), true);
    let last = last.expect("asked for");
    let mut outputs = vec![
        ("y".to_owned(), y),
        ("ssm".to_owned(), last.ssm),
        ("k".to_owned(), last.k),
        ("v".to_owned(), last.v),
        ("cos".to_owned(), last.angle.cos()),
    ];
    let mut loss = Tensor::zeros([], (Kind::Double, device));
    for (_, t) in &outputs {
        let weight = Tensor::randn(t.size(), FLOAT).to_device(device);
        loss += (t.to_kind(Kind::Double) * weight).sum(Kind::Double);
    }
    loss.backward();
    outputs.push(("du".to_owned(), u.grad()));
    for (name, t) in [
        ("angle", &memory.angle),
        ("ssm", &memory.ssm),
        ("k", &memory.k),
        ("v", &memory.v),
    ] {
        outputs.push((format!("gradient of the initial {name}"), t.grad()));
    }
    for (name, t) in &params {
        outputs.push((format!("gradient of {name}"), t.grad()));
    }
    outputs
        .into_iter()
        .map(|(name, t)| (name, t.to_device(Device::Cpu).to_kind(Kind::Double)))
        .collect()
}

fn errors(found: &[(String, Tensor)], expected: &[(String, Tensor)]) -> Vec<f64> {
    found
        .iter()
        .zip(expected)
        .map(|((_, a), (_, b))| ((a - b).norm() / (b.norm() + 1e-30)).double_value(&[]))
        .collect()
}

#[test]
fn blocks_on_cuda_are_those_of_the_cpu_in_fp64() {
    let Some(device) = device() else { return };
    let _held = seeded(4);
    // The third has no kernel: plain operators run in its place.
    for (rank, states, halves) in [
        (1, 128, false),
        (1, 64, true),
        (2, 128, true),
        (4, 128, true),
        (8, 128, false),
        (2, 32, true),
    ] {
        let shape = shape(rank, states, halves);
        let exact = run(&shape, Device::Cpu, Kind::Double);
        let single = errors(&run(&shape, Device::Cpu, Kind::Float), &exact);
        let rounded = errors(&run(&shape, Device::Cpu, Kind::BFloat16), &exact);
        let fp32 = errors(&run(&shape, device, Kind::Float), &exact);
        let found = run(&shape, device, Kind::BFloat16);
        let bf16 = errors(&found, &exact);
        for (i, (name, value)) in found.iter().enumerate() {
            eprintln!(
                "rank {rank}, {states}, {name}: cpu fp32 {:.1e} bf16 {:.1e}; cuda fp32 {:.1e} bf16 {:.1e}",
                single[i], rounded[i], fp32[i], bf16[i]
            );
            let place = format!("rank {rank}, {states} states, {name}");
            assert!(value.isfinite().all().int64_value(&[]) == 1, "{place}");
            assert!(
                fp32[i] < (3.0 * single[i]).max(1e-5),
                "fp32 {place}: {}",
                fp32[i]
            );
            assert!(
                bf16[i] < (2.0 * rounded[i]).max(1.5e-2),
                "bf16 {place}: {} {}",
                bf16[i],
                rounded[i]
            );
        }
        let again = run(&shape, device, Kind::BFloat16);
        for ((name, a), (_, b)) in found.iter().zip(&again) {
            assert_eq!(a, b, "the same from run to run: {name}");
        }
    }
}

#[test]
fn golden_blocks_hold_on_cuda() {
    let Some(device) = device() else { return };
    let _held = seeded(4);
    for name in [
        "mamba3_siso_heavytail_norm_fullrope",
        "mamba3_mimo_r2_norm",
        "mamba3_mimo_r4",
        "mamba3_siso_op_states",
    ] {
        let folder = std::env::var("CISTRON_GOLDEN")
            .unwrap_or_else(|_| format!("{}/../../tests/golden", env!("CARGO_MANIFEST_DIR")));
        let path = Path::new(&folder).join(format!("{name}.safetensors"));
        let parity = parity::check(&path, device).expect("a golden file");
        eprintln!("{name}: {parity:?}");
        assert!(parity.holds(), "{parity:?}");
    }
}

fn model(device: Device) -> HNet {
    let text = r#"{"arch_layout": ["b2", ["T1r1", ["R1B1"], "b1"], "m1b1"],
        "d_model": [128, 192, 256], "d_intermediate": [0, 512, 640], "vocab_size": 8,
        "ssm_cfg": {"d_state": 128, "headdim": 64},
        "attn_cfg": {"num_heads": [2, 3, 4], "rotary_emb_dim": 32, "window_size": [63, 63, -1]}}"#;
    let config = Config::from_json(text, Path::new("config.json")).expect("valid");
    HNet::new(&config, 3, device).expect("valid")
}

fn tokens(total: i64) -> Tensor {
    let bases: Vec<i64> = (0..total).map(|i| i * i * 7 % 31 % 4).collect();
    Tensor::from_slice(&bases)
}

/// Pieces with carried states, masked steps from a recorded graph and single steps stay near the
/// whole.
#[test]
fn states_and_steps_continue_on_cuda() {
    let Some(device) = device() else { return };
    let _held = seeded(4);
    let _guard = tch::no_grad_guard();
    for precision in [Precision::Fp32, Precision::Bf16] {
        let model = model(device).with_compute(Compute {
            selection: vec![],
            ..Compute::new(precision)
        });
        let tokens = tokens(600).to_device(device);
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
        let mut decoder = Decoder::new(&model, &state, 20);
        for t in 580..600 {
            let next = tokens.narrow(0, t, 1);
            let stepped = model.step(&next, &mut state);
            let decoded = decoder.step(&next);
            assert_eq!(decoder.graph_problem(), None);
            let apart = (decoded - &stepped).abs().max().double_value(&[]);
            assert!(apart < 0.05, "step {t}: {apart}");
            pieces.push(stepped);
        }
        let apart = (Tensor::cat(&pieces, 0) - &whole).abs();
        assert!(apart.isfinite().all().int64_value(&[]) == 1);
        // A boundary may flip near the threshold, so only the bulk is held to rounding.
        let (median, scale) = (
            apart.median().double_value(&[]),
            whole.abs().mean(Kind::Double).double_value(&[]),
        );
        eprintln!("{precision:?}: median {median:.2e} of {scale:.2e}");
        assert!(median < 0.02 * scale.max(0.5), "{median} {scale}");
    }
}
