//! States between windows of training.

use std::path::Path;

use cistron_model::{Config, HNet, State};
use tch::{Device, Kind, Tensor};

fn model(layout: &str) -> HNet {
    let text = format!(
        r#"{{"arch_layout": {layout}, "d_model": [32, 48], "d_intermediate": [0, 128],
            "vocab_size": 8, "ssm_cfg": {{"d_state": 8, "headdim": 16}},
            "attn_cfg": {{"num_heads": 2, "rotary_emb_dim": 8, "window_size": -1}}}}"#
    );
    let config = Config::from_json(&text, Path::new("config.json")).expect("valid");
    HNet::new(&config, 5, Device::Cpu).expect("valid")
}

fn tokens(count: i64, seed: i64) -> Tensor {
    let list: Vec<i64> = (0..count).map(|i| (i * i + seed * i / 3) % 4).collect();
    Tensor::from_slice(&list)
}

fn after(model: &HNet, state: Option<&State>) -> Tensor {
    let (output, _) = model.forward_from(&tokens(18, 7), &[10, 8], state);
    output.logits.detach()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn forgotten_sequences_begin_from_nothing_and_others_go_on() {
    let model = model(r#"["m1t1", ["T1m1"], "m1"]"#);
    let (_, state) = model.forward_from(&tokens(30, 2), &[18, 12], None);
    let mixed = after(&model, Some(&state.forget(&[false, true])));
    let (kept, fresh) = (after(&model, Some(&state)), after(&model, None));
    assert!(distance(&kept, &fresh) > 1e-3, "states matter");
    assert!(distance(&mixed.narrow(0, 0, 10), &kept.narrow(0, 0, 10)) < 1e-5);
    assert!(distance(&mixed.narrow(0, 10, 8), &fresh.narrow(0, 10, 8)) < 1e-5);
    let nothing = after(&model, Some(&state.forget(&[true, true])));
    assert!(distance(&nothing, &fresh) < 1e-5);
}

#[test]
fn the_recurrent_part_is_all_of_a_recurrent_model_and_nothing_of_attention() {
    let recurrent = {
        let text = r#"{"arch_layout": ["m2"], "d_model": [32], "d_intermediate": [0],
            "vocab_size": 8, "ssm_cfg": {"d_state": 8, "headdim": 16}}"#;
        let config = Config::from_json(text, Path::new("config.json")).expect("valid");
        HNet::new(&config, 5, Device::Cpu).expect("valid")
    };
    let attention = {
        let text = r#"{"arch_layout": ["t2"], "d_model": [32], "d_intermediate": [0],
            "vocab_size": 8,
            "attn_cfg": {"num_heads": 2, "rotary_emb_dim": 8, "window_size": -1}}"#;
        let config = Config::from_json(text, Path::new("config.json")).expect("valid");
        HNet::new(&config, 5, Device::Cpu).expect("valid")
    };
    let part = |model: &HNet| {
        let (_, state) = model.forward_from(&tokens(30, 2), &[18, 12], None);
        let only = after(model, Some(&state.recurrent()));
        (only, after(model, Some(&state)), after(model, None))
    };
    let (only, all, nothing) = part(&recurrent);
    assert!(distance(&only, &all) < 1e-6 && distance(&only, &nothing) > 1e-4);
    let (only, all, nothing) = part(&attention);
    assert!(distance(&only, &nothing) < 1e-5 && distance(&only, &all) > 1e-4);
}

#[test]
fn scan_states_can_be_read_and_replaced() {
    let model = model(r#"["m1", ["T1m1"], "m1"]"#);
    let (_, state) = model.forward_from(&tokens(30, 2), &[18, 12], None);
    let scans = state.scans();
    let names: Vec<&str> = scans.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "encoder.layers.0",
            "main_network.main_network.layers.1",
            "decoder.layers.0"
        ]
    );
    assert_eq!(scans[0].1.size(), [2, 4, 16, 8]);
    let doubled = state.map_scans(&mut |_, scan| scan * 2.0);
    for ((name, norm), (_, twice)) in state.scan_norms().iter().zip(doubled.scan_norms()) {
        assert_eq!(norm.size()[0], 2, "{name}");
        assert!(distance(&(norm * 2.0), &twice) < 1e-4);
    }
}

#[test]
fn no_gradient_flows_through_a_detached_state() {
    let model = model(r#"["m1", ["T1m1"], "m1"]"#).leaves();
    let (_, state) = model.forward_from(&tokens(30, 2), &[18, 12], None);
    assert!(state.scans().iter().all(|(_, scan)| scan.requires_grad()));
    let state = state.detach();
    assert!(state.scans().iter().all(|(_, scan)| !scan.requires_grad()));
    let (output, _) = model.forward_from(&tokens(18, 7), &[10, 8], Some(&state));
    output.logits.sum(Kind::Float).backward();
    let (_, param) = model.params().iter().next().expect("a parameter");
    assert!(param.tensor.grad().defined());
}
