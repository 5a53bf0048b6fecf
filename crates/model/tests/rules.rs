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
