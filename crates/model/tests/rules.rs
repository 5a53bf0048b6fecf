//! Chunks by rule: they lie where the rule says, and the three forms agree on them.

use std::path::Path;

use cistron_model::{Config, HNet};
use tch::{Device, Kind, Tensor};

fn model(chunking: &str) -> HNet {
    let text = format!(
        r#"{{"arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": [32, 32, 48],
            "d_intermediate": [0, 0, 64], "vocab_size": 8,
            "ssm_cfg": {{"d_state": 8, "headdim": 16}},
            "attn_cfg": {{"num_heads": 2, "rotary_emb_dim": 8, "window_size": -1}},
            "cistron": {{"ratio": [3, 2], "chunking": "{chunking}"}}}}"#
    );
    let config = Config::from_json(&text, Path::new("config.json")).expect("valid");
    HNet::new(&config, 3, Device::Cpu).expect("valid")
}

fn tokens(count: i64) -> Tensor {
    (Tensor::arange(count, (Kind::Int64, Device::Cpu)) * 7i64).remainder(5i64)
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn strides_count_from_the_start_of_each_sequence() {
    let output = model("stride").forward(&tokens(17), &[10, 7]);
    let mask = Vec::<bool>::try_from(&output.routing[0].mask).expect("bool");
    let starts: Vec<usize> = (0..17).filter(|&i| mask[i]).collect();
    assert_eq!(starts, [0, 3, 6, 9, 10, 13, 16]);
    assert_eq!(output.routing[1].chunks, [2, 2]);
}

#[test]
fn marked_tokens_start_chunks_and_mean_the_same() {
    let model = model("codons");
    let marks = Tensor::from_slice(&[0i64, 0, 1, 0, 0, 1, 1, 0, 0, 0]) * 8i64;
    let output = model.forward(&(tokens(10) + &marks), &[6, 4]);
    let mask = Vec::<bool>::try_from(&output.routing[0].mask).expect("bool");
    let starts: Vec<usize> = (0..10).filter(|&i| mask[i]).collect();
    assert_eq!(starts, [0, 2, 5, 6]);
    assert_eq!(output.routing[1].chunks, [2, 1]);
    // Marks after a token do not change what is said of it.
    let later = marks.narrow(0, 0, 5);
    let short = model.forward(&(tokens(5) + later), &[5]);
    assert!(apart(&output.logits.narrow(0, 0, 5), &short.logits) < 1e-5);
    let whole = model.forward(&(tokens(10) + &marks), &[10]).logits;
    let (head, state) = model.forward_from(&(tokens(10) + &marks).narrow(0, 0, 4), &[4], None);
    let (tail, _) = model.forward_from(&(tokens(10) + &marks).narrow(0, 4, 6), &[6], Some(&state));
    assert!(apart(&whole, &Tensor::cat(&[head.logits, tail.logits], 0)) < 1e-4);
}

#[test]
fn whole_split_and_stepped_agree() {
    let _guard = tch::no_grad_guard();
    for chunking in ["stride", "random"] {
        let model = model(chunking);
        let whole = model.forward(&tokens(40), &[40]).logits;
        for cut in [1, 4, 13, 39] {
            let (head, state) = model.forward_from(&tokens(40).narrow(0, 0, cut), &[cut], None);
            let rest = 40 - cut;
            let (tail, _) =
                model.forward_from(&tokens(40).narrow(0, cut, rest), &[rest], Some(&state));
            let split = Tensor::cat(&[head.logits, tail.logits], 0);
            assert!(apart(&whole, &split) < 1e-4, "{chunking} cut at {cut}");
        }
        let mut state = model.empty_state(1);
        for i in 0..40 {
            let step = model.step(&tokens(40).narrow(0, i, 1), &mut state);
            assert!(
                apart(&whole.narrow(0, i, 1), &step) < 1e-4,
                "{chunking} step {i}"
            );
        }
    }
}
