//! Precisions and activation checkpointing on the CPU.

use std::path::Path;

use cistron_model::{
    Checkpointing, Compute, Config, Every, HNet, Output, Precision, State, ratio_loss,
};
use tch::{Device, Kind, Tensor};

const LENGTHS: [i64; 3] = [90, 1, 37];

fn model() -> HNet {
    let text = r#"{"arch_layout": ["m1t1", ["T1m1b1", ["T1M1"], "m1T1r1"], "m1"],
        "d_model": [32, 48, 64], "d_intermediate": [128, 128, 128], "vocab_size": 8,
        "ssm_cfg": {"d_state": 8, "headdim": 16},
        "attn_cfg": {"num_heads": 2, "rotary_emb_dim": 8, "window_size": [15, 15, -1]}}"#;
    let config = Config::from_json(text, Path::new("config.json")).expect("valid");
    HNet::new(&config, 3, Device::Cpu).expect("valid")
}

fn tokens() -> Tensor {
    // Without libtorch's generator, which all tests share.
    let bases: Vec<i64> = (0..LENGTHS.iter().sum())
        .map(|i: i64| i * i * 7 % 31 % 4)
        .collect();
    Tensor::from_slice(&bases)
}

fn loss(output: &Output) -> Tensor {
    let targets = tokens();
    let ratios = output
        .routing
        .iter()
        .map(|routing| ratio_loss(routing, 3.0));
    output.logits.cross_entropy_for_logits(&targets) + ratios.sum::<Tensor>() * 0.1
}

fn gradients(compute: Compute) -> (f64, Vec<(String, Tensor)>) {
    let model = model().with_compute(compute);
    let loss = loss(&model.forward(&tokens(), &LENGTHS));
    loss.backward();
    let gradients = model
        .params()
        .iter()
        .map(|(name, param)| (name.to_owned(), param.tensor.grad()));
    (loss.double_value(&[]), gradients.collect())
}

#[test]
fn checkpointing_changes_no_bit_of_the_gradients() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let (loss, expected) = gradients(Compute::new(precision));
        for checkpointing in [
            Checkpointing::Every(Every::All),
            Checkpointing::Stages(vec![0, 2]),
        ] {
            let (again, found) = gradients(Compute {
                precision,
                checkpointing,
                selection: Vec::new(),
            });
            assert_eq!(loss, again);
            for ((name, expected), (_, found)) in expected.iter().zip(&found) {
                assert_eq!(expected, found, "{name}");
            }
        }
    }
}

#[test]
fn bf16_is_near_fp32_and_gradients_are_fp32() {
    let (exact, expected) = gradients(Compute::new(Precision::Fp32));
    let (near, found) = gradients(Compute::new(Precision::Bf16));
    assert!((exact - near).abs() < 0.02, "{exact} {near}");
    let (mut apart, mut norm) = (0.0, 0.0);
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert_eq!(found.kind(), Kind::Float, "{name}");
        assert!(found.isfinite().all().int64_value(&[]) == 1, "{name}");
        apart += (found - expected)
            .square()
            .sum(Kind::Double)
            .double_value(&[]);
        norm += expected.square().sum(Kind::Double).double_value(&[]);
    }
    assert!(apart > 0.0, "bf16 has fewer bits");
    assert!(apart.sqrt() < 0.1 * norm.sqrt(), "{apart} {norm}");
}

/// Weights converted once give what weights converted at each use give, bit for bit.
#[test]
fn inference_weights_are_those_of_training() {
    let _guard = tch::no_grad_guard();
    let model = model().with_compute(Compute::new(Precision::Bf16));
    let frozen = model.for_inference(Precision::Bf16);
    let tokens = tokens();
    let expected = model.forward(&tokens, &LENGTHS).logits;
    assert_eq!(expected.kind(), Kind::Float);
    assert_eq!(expected, frozen.forward(&tokens, &LENGTHS).logits);
    for (name, param) in frozen.params().iter() {
        assert!(!param.tensor.requires_grad(), "{name}");
    }
}

/// A fixed selection has the share asked for, and each sequence starts a chunk.
#[test]
fn a_fixed_selection_has_its_share() {
    let _guard = tch::no_grad_guard();
    let model = model().with_compute(Compute {
        selection: vec![0.4, 0.25],
        ..Compute::new(Precision::Fp32)
    });
    let output = model.forward(&tokens(), &LENGTHS);
    for (routing, share) in output.routing.iter().zip([0.4, 0.25]) {
        let tokens: i64 = routing.lengths.iter().sum();
        let chunks: i64 = routing.chunks.iter().sum();
        let off = chunks as f64 - share * tokens as f64;
        assert!((-3.0..=5.0).contains(&off), "{chunks} of {tokens}");
        assert!(routing.chunks.iter().all(|&chunks| chunks > 0));
    }
}

/// Pieces and steps in bf16 stay near the whole.
#[test]
fn states_continue_in_bf16() {
    let _guard = tch::no_grad_guard();
    let model = model().for_inference(Precision::Bf16);
    let tokens = tokens().narrow(0, 0, 60);
    let whole = model.forward(&tokens, &[60]).logits;
    let mut state: Option<State> = None;
    let mut pieces = Vec::new();
    for (start, length) in [(0, 25), (25, 25)] {
        let piece = tokens.narrow(0, start, length);
        let (output, next) = model.forward_from(&piece, &[length], state.as_ref());
        pieces.push(output.logits);
        state = Some(next);
    }
    let mut state = state.expect("two pieces");
    for t in 50..60 {
        pieces.push(model.step(&tokens.narrow(0, t, 1), &mut state));
    }
    let apart = (Tensor::cat(&pieces, 0) - whole).abs();
    // A boundary may flip near the threshold, so only the bulk is held to rounding.
    assert!(apart.median().double_value(&[]) < 0.01);
}
