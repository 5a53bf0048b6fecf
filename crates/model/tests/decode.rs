//! Masked steps equal the others, and leave the memory of rows that do not run alone.

use std::path::Path;
use std::time::Instant;

use cistron_draws::seeded;
use cistron_kernels::runtime;
use cistron_model::decode::Decoder;
use cistron_model::{Config, HNet, Precision, State};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const LAYOUTS: [&str; 9] = [
    r#"["m2"]"#,
    r#"["t2"]"#,
    r#"["M1T1"]"#,
    r#"["m1", ["T1"], "m1"]"#,
    r#"["m1t1", ["T1m1", ["T1M1"], "m1T1"], "m1"]"#,
    r#"["t1", ["m1", ["m1"], "t1"], "m1"]"#,
    r#"["b2"]"#,
    r#"["r1B1"]"#,
    r#"["b1", ["T1r1", ["R1"], "t1"], "b1"]"#,
];

fn model(layout: usize, window: i64, seed: u64, device: Device) -> HNet {
    let stages = LAYOUTS[layout].matches('[').count();
    let text = format!(
        r#"{{"arch_layout": {}, "d_model": {:?}, "d_intermediate": {:?}, "vocab_size": 8,
            "ssm_cfg": {{"d_state": 12, "headdim": 16}},
            "attn_cfg": {{"num_heads": 2, "rotary_emb_dim": 8, "window_size": {window}}}}}"#,
        LAYOUTS[layout],
        &[32, 48, 64][..stages],
        vec![64; stages],
    );
    let config = Config::from_json(&text, Path::new("config.json")).expect("valid");
    let model = HNet::new(&config, seed, device).expect("valid");
    // Routers that start as identities hide errors.
    let _guard = tch::no_grad_guard();
    for (name, param) in model.params().iter() {
        if name.contains("routing_module") || name.contains("residual_proj") {
            let _held = seeded(seed as i64 + name.len() as i64);
            let noise = Tensor::randn(param.tensor.size(), (Kind::Float, Device::Cpu)) * 0.2;
            let noise = noise.to_device(device);
            let _ = param.tensor.shallow_clone().g_add_(&noise);
        } else if name.contains("proj") || name.contains("fc") {
            let _ = param.tensor.shallow_clone().g_mul_scalar_(6.0);
        }
    }
    model
}

fn tokens(seed: u64, count: i64) -> Tensor {
    let _held = seeded(seed as i64);
    Tensor::randint(4, [count], (Kind::Int64, Device::Cpu))
}

/// The state after ragged prompts.
fn prompted(model: &HNet, prompts: &[i64], seed: u64) -> State {
    let total = prompts.iter().sum();
    model.forward_from(&tokens(seed, total), prompts, None).1
}

/// Whether no router comes so near to its threshold that rounding decides.
fn clear(model: &HNet, rows: &[Tensor]) -> bool {
    let lengths: Vec<i64> = rows.iter().map(|row| row.size()[0]).collect();
    let output = model.forward(&Tensor::cat(rows, 0), &lengths);
    output
        .routing
        .iter()
        .filter(|routing| routing.prob.numel() > 0)
        .all(|routing| (&routing.prob - 0.5).abs().min().double_value(&[]) > 1e-4)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_decoder_steps_as_the_model_does(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 0, 3, 15]),
        prompts in prop::collection::vec(0i64..20, 1..4), extra in 1i64..30, seed in 0u64..1000,
    ) {
        prop_assume!(prompts.iter().sum::<i64>() > 0);
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed, Device::Cpu);
        let mut state = prompted(&model, &prompts, seed);
        let mut decoder = Decoder::new(&model, &state, extra as usize);
        let next: Vec<Tensor> = (0..extra as u64)
            .map(|t| tokens(seed + 100 + t, prompts.len() as i64)).collect();
        let rows: Vec<Tensor> = tokens(seed, prompts.iter().sum())
            .split_with_sizes(&prompts[..], 0).iter().enumerate()
            .map(|(row, prompt)| {
                let after: Vec<Tensor> = next.iter().map(|t| t.narrow(0, row as i64, 1)).collect();
                Tensor::cat(&[prompt.shallow_clone(), Tensor::cat(&after, 0)], 0)
            }).collect();
        prop_assume!(clear(&model, &rows));
        for next in next {
            let expected = model.step(&next, &mut state);
            prop_assert!(distance(&decoder.step(&next), &expected) < 2e-4);
        }
    }

    #[test]
    fn rows_that_do_not_run_keep_their_memory(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 3]), seed in 0u64..1000,
        pattern in prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 1..25),
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed, Device::Cpu);
        let prompts = [5, 1, 9];
        let state = prompted(&model, &prompts, seed);
        let next: Vec<Tensor> = (0..pattern.len() as u64).map(|t| tokens(seed + 100 + t, 3)).collect();
        let rows: Vec<Tensor> = tokens(seed, prompts.iter().sum())
            .split_with_sizes(&prompts[..], 0).into_iter().enumerate()
            .map(|(row, prompt)| {
                let taken = next.iter().zip(&pattern).filter(|(_, running)| running[row])
                    .map(|(next, _)| next.narrow(0, row as i64, 1));
                Tensor::cat(&std::iter::once(prompt).chain(taken).collect::<Vec<_>>(), 0)
            }).collect();
        prop_assume!(clear(&model, &rows));
        let mut decoder = Decoder::new(&model, &state, pattern.len());
        // Each row alone, given the tokens of the steps that it takes and no others.
        let mut alone: Vec<State> = (0..3).map(|row| state.select(&[row])).collect();
        for (running, next) in pattern.iter().zip(&next) {
            decoder.run(running);
            let scores = decoder.step(next);
            for (row, _) in running.iter().enumerate().filter(|(_, running)| **running) {
                let expected = model.step(&next.narrow(0, row as i64, 1), &mut alone[row]);
                prop_assert!(distance(&scores.narrow(0, row as i64, 1), &expected) < 2e-4);
            }
        }
    }
}

#[test]
fn the_state_that_a_decoder_starts_from_stays_as_it_is() {
    let _guard = tch::no_grad_guard();
    let model = model(4, 3, 1, Device::Cpu);
    let state = prompted(&model, &[6, 4], 1);
    let mut decoder = Decoder::new(&model, &state, 2);
    let first = decoder.step(&tokens(2, 2)).copy();
    let _ = decoder.step(&tokens(3, 2));
    let again = Decoder::new(&model, &state, 1).step(&tokens(2, 2));
    assert_eq!(distance(&first, &again), 0.0);
}

fn cuda() -> Option<Device> {
    let device = (runtime::cuda_devices() > 0).then_some(Device::Cuda(0));
    if device.is_none() {
        eprintln!("no CUDA device: nothing is tested");
    }
    device
}

#[test]
fn recorded_steps_equal_the_others_on_cuda() {
    let Some(device) = cuda() else { return };
    let _guard = tch::no_grad_guard();
    for layout in 0..LAYOUTS.len() {
        for window in [-1, 3] {
            let model = model(layout, window, 7, device);
            let mut state = prompted(&model, &[5, 1, 9], 7);
            let mut recorded = Decoder::new(&model, &state, 40);
            let mut launched = Decoder::new(&model, &state, 40).without_graph();
            for t in 0..40 {
                let next = tokens(100 + t, 3);
                let expected = model.step(&next, &mut state);
                let scores = recorded.step(&next);
                assert_eq!(recorded.graph_problem(), None);
                let name = format!("layout {layout}, window {window}, step {t}");
                assert_eq!(distance(&scores, &launched.step(&next)), 0.0, "{name}");
                assert!(distance(&scores, &expected) < 1e-3, "{name}");
            }
        }
    }
}

/// Milliseconds a step, by batch and way of stepping: `cargo test -p cistron-model --test decode
/// --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, on CUDA"]
fn time_of_a_step() {
    let Some(device) = cuda() else { return };
    let _guard = tch::no_grad_guard();
    let text = r#"{"arch_layout": ["m4", ["T1m4", ["T12"], "m4T1"], "m4"],
        "d_model": [512, 768, 1024], "d_intermediate": [0, 2048, 2736], "vocab_size": 8,
        "ssm_cfg": {"d_state": 128, "headdim": 64},
        "attn_cfg": {"num_heads": [8, 12, 16], "rotary_emb_dim": 32, "window_size": -1}}"#;
    let config = Config::from_json(text, Path::new("config.json")).expect("valid");
    let model = HNet::new(&config, 1, device)
        .expect("valid")
        .for_inference(Precision::Bf16);
    for rows in [1, 16, 128, 512] {
        let mut state = prompted(&model, &vec![100; rows], 1);
        let next = tokens(2, rows as i64);
        let mut recorded = Decoder::new(&model, &state, 110);
        let mut launched = Decoder::new(&model, &state, 110).without_graph();
        let time = |step: &mut dyn FnMut() -> Tensor| {
            let mut run = |count: u32| {
                let start = Instant::now();
                for _ in 1..count {
                    let _ = step();
                }
                // Reading a value waits for all of them.
                let _ = step().sum(Kind::Float).double_value(&[]);
                start.elapsed().as_secs_f64() * 1e3 / f64::from(count)
            };
            run(10);
            run(100)
        };
        println!(
            "{rows} rows: recorded {:.3} ms, launched {:.3} ms, asking {:.3} ms a step",
            time(&mut || recorded.step(&next)),
            time(&mut || launched.step(&next)),
            time(&mut || model.step(&next, &mut state)),
        );
    }
}
