//! The three forms of the model, batches, states and causality, on random models.

use std::path::Path;

use cistron_draws::seeded;
use cistron_model::{Config, HNet, Output, State};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const LAYOUTS: [&str; 12] = [
    r#"["m2"]"#,
    r#"["M1"]"#,
    r#"["t2"]"#,
    r#"["T1"]"#,
    r#"["m1", ["T1"], "m1"]"#,
    r#"["m1t1", ["T1m1", ["T1M1"], "m1T1"], "m1"]"#,
    r#"["m1", ["m1", ["t1", ["M1"], "m1"], "m1"], "t1"]"#,
    r#"["b2"]"#,
    r#"["R1"]"#,
    r#"["r1B1"]"#,
    r#"["b1", ["T1r1"], "m1b1"]"#,
    r#"["r1", ["b1t1", ["B1R1"], "b1T1"], "m1"]"#,
];

/// Details of the Mamba-3 blocks, by seed.
const MAMBA3: [&str; 4] = [
    "{\"rank\": 4}",
    "{\"rank\": 2, \"rope_fraction\": 1.0, \"out_proj_norm\": true}",
    "{\"rank\": 3, \"a_activation\": \"heavy_tail\", \"rotary_layout\": \"pairwise\"}",
    "{\"rank\": 1, \"rope_fraction\": 0.0, \"rotary_layout\": \"half\"}",
];

fn model(layout: usize, window: i64, seed: u64) -> HNet {
    let text = format!(
        r#"{{"arch_layout": {}, "d_model": WIDTHS, "d_intermediate": FFN, "vocab_size": 8,
            "ssm_cfg": {{"d_state": 8, "headdim": 16}},
            "attn_cfg": {{"num_heads": 2, "rotary_emb_dim": 8, "window_size": {window}}},
            "cistron": {{"mamba3": {}}}}}"#,
        LAYOUTS[layout],
        MAMBA3[seed as usize % MAMBA3.len()]
    );
    let stages = LAYOUTS[layout].matches('[').count();
    let widths: Vec<i64> = [32, 48, 48, 64].into_iter().take(stages).collect();
    let text = text.replace("WIDTHS", &format!("{widths:?}"));
    let text = text.replace("FFN", &format!("{:?}", vec![128; stages]));
    let config = Config::from_json(&text, Path::new("config.json")).expect("valid");
    let model = HNet::new(&config, seed, Device::Cpu).expect("valid");
    // Identity routers hide errors, and an untrained residual passes nothing on.
    let _guard = tch::no_grad_guard();
    for (name, param) in model.params().iter() {
        if name.contains("routing_module") || name.contains("residual_proj") || name.contains("pad")
        {
            let _held = seeded((seed + name.len() as u64) as i64);
            let noise = Tensor::randn(param.tensor.size(), (Kind::Float, Device::Cpu)) * 0.2;
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

/// What a mixer of the outermost stage reads.
fn input(seed: u64) -> Tensor {
    let _held = seeded(seed as i64);
    Tensor::randn([70, 32], (Kind::Float, Device::Cpu))
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    if a.numel() == 0 {
        0.0
    } else {
        (a - b).abs().max().double_value(&[])
    }
}

/// How near any router came to the threshold: below this, rounding decides.
fn margin(output: &Output) -> f64 {
    let near = |prob: &Tensor| (prob - 0.5).abs().min().double_value(&[]);
    output
        .routing
        .iter()
        .filter(|routing| routing.prob.numel() > 0)
        .map(|routing| near(&routing.prob))
        .fold(1.0, f64::min)
}

fn steps(model: &HNet, tokens: &Tensor, state: &mut State) -> Tensor {
    let columns: Vec<Tensor> = (0..tokens.size()[1])
        .map(|t| model.step(&tokens.select(1, t), state))
        .collect();
    Tensor::stack(&columns, 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Parallel = step, for a batch whose rows chunk differently.
    #[test]
    fn stepping_equals_the_parallel_form(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 0, 3, 15]),
        length in 1i64..50, seed in 0u64..1000,
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed);
        let tokens = tokens(seed, 3 * length).reshape([3, length]);
        let output = model.forward(&tokens.reshape([-1]), &[length; 3]);
        prop_assume!(margin(&output) > 1e-4);
        let stepped = steps(&model, &tokens, &mut model.empty_state(3));
        prop_assert!(distance(&stepped.reshape([-1, 8]), &output.logits) < 2e-4);
    }

    /// A piece continued from the state of the piece before = the whole, whatever
    /// the cuts; also when some rows contribute nothing to a piece.
    #[test]
    fn splitting_with_the_state_equals_the_whole(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 0, 3, 15]),
        lengths in prop::collection::vec((0i64..30, 0i64..30, 0i64..8), 1..4), seed in 0u64..1000,
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed);
        let rows: Vec<Tensor> = lengths.iter().enumerate()
            .map(|(i, (a, b, c))| tokens(seed + 31 * i as u64, a + b + c)).collect();
        let whole_lengths: Vec<i64> = lengths.iter().map(|(a, b, c)| a + b + c).collect();
        prop_assume!(whole_lengths.iter().sum::<i64>() > 0);
        let whole = model.forward(&Tensor::cat(&rows, 0), &whole_lengths);
        prop_assume!(margin(&whole) > 1e-4);
        let mut state: Option<State> = None;
        let mut pieces: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::new()).collect();
        for piece in 0..3 {
            let bounds: Vec<(i64, i64)> = lengths.iter().map(|&(a, b, c)| match piece {
                0 => (0, a), 1 => (a, b), _ => (a + b, c),
            }).collect();
            let cut: Vec<Tensor> = rows.iter().zip(&bounds).map(|(row, &(s, n))| row.narrow(0, s, n)).collect();
            let cut_lengths: Vec<i64> = bounds.iter().map(|&(_, n)| n).collect();
            let (output, next) = model.forward_from(&Tensor::cat(&cut, 0), &cut_lengths, state.as_ref());
            let mut start = 0;
            for (piece, &length) in pieces.iter_mut().zip(&cut_lengths) {
                piece.push(output.logits.narrow(0, start, length));
                start += length;
            }
            state = Some(next);
        }
        let joined: Vec<Tensor> = pieces.into_iter().map(|piece| Tensor::cat(&piece, 0)).collect();
        prop_assert!(distance(&Tensor::cat(&joined, 0), &whole.logits) < 2e-4);
    }

    /// Prefill of ragged prompts, then steps = each sequence alone in parallel form.
    #[test]
    fn prefill_and_steps_equal_the_whole(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 3]),
        prompts in prop::collection::vec(1i64..20, 1..4), extra in 1i64..30, seed in 0u64..1000,
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed);
        let rows: Vec<Tensor> = prompts.iter().enumerate()
            .map(|(i, length)| tokens(seed + 77 * i as u64, length + extra)).collect();
        let heads: Vec<Tensor> = rows.iter().zip(&prompts).map(|(row, &n)| row.narrow(0, 0, n)).collect();
        let tails: Vec<Tensor> = rows.iter().zip(&prompts).map(|(row, &n)| row.narrow(0, n, extra)).collect();
        let (_, state) = model.forward_from(&Tensor::cat(&heads, 0), &prompts, None);
        let mut forked = state.fork();
        let stepped = steps(&model, &Tensor::stack(&tails, 0), &mut forked);
        let again = steps(&model, &Tensor::stack(&tails, 0), &mut state.fork());
        prop_assert_eq!(distance(&stepped, &again), 0.0);
        for (i, (row, &prompt)) in rows.iter().zip(&prompts).enumerate() {
            let alone = model.forward(row, &[prompt + extra]);
            prop_assume!(margin(&alone) > 1e-4);
            let tail = alone.logits.narrow(0, prompt, extra);
            prop_assert!(distance(&stepped.get(i as i64), &tail) < 2e-4);
            let mut single = state.select(&[i as i64]);
            let selected = steps(&model, &tails[i].unsqueeze(0), &mut single);
            prop_assert!(distance(&selected.get(0), &tail) < 2e-4);
        }
    }

    /// A packed batch = its sequences alone: logits, probabilities, boundaries, counts.
    #[test]
    fn a_packed_batch_equals_its_sequences(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 3]),
        lengths in prop::collection::vec(1i64..40, 1..5), seed in 0u64..1000,
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed);
        let total = lengths.iter().sum();
        let tokens = tokens(seed, total);
        let batch = model.forward(&tokens, &lengths);
        prop_assume!(margin(&batch) > 1e-4);
        let mut start = 0;
        let mut stage_starts = vec![0; batch.routing.len()];
        for (i, &length) in lengths.iter().enumerate() {
            let alone = model.forward(&tokens.narrow(0, start, length), &[length]);
            prop_assert!(distance(&batch.logits.narrow(0, start, length), &alone.logits) < 1e-4);
            for ((stage, one), at) in batch.routing.iter().zip(&alone.routing).zip(&mut stage_starts) {
                let n = one.lengths[0];
                prop_assert_eq!(n, stage.lengths[i]);
                prop_assert_eq!(one.chunks[0], stage.chunks[i]);
                prop_assert_eq!(&one.mask, &stage.mask.narrow(0, *at, n));
                prop_assert!(distance(&one.prob, &stage.prob.narrow(0, *at, n)) < 1e-4);
                *at += n;
            }
            start += length;
        }
    }

    /// Changing a later base leaves earlier logits: to 1e-6 in parallel, bit for bit in steps.
    #[test]
    fn nothing_depends_on_what_comes_later(
        layout in 0usize..LAYOUTS.len(), window in prop::sample::select(vec![-1i64, 3]),
        length in 2i64..40, at in 0.0f64..1.0, seed in 0u64..1000,
    ) {
        let _guard = tch::no_grad_guard();
        let model = model(layout, window, seed);
        let tokens = tokens(seed, length);
        let at = 1 + ((length - 1) as f64 * at) as i64;
        let changed = tokens.copy();
        let _ = changed.get(at.min(length - 1)).fill_((tokens.int64_value(&[at.min(length - 1)]) + 1) % 4);
        let early = at.min(length - 1);
        let (a, b) = (model.forward(&tokens, &[length]), model.forward(&changed, &[length]));
        prop_assume!(margin(&a) > 1e-5);
        prop_assert!(distance(&a.logits.narrow(0, 0, early), &b.logits.narrow(0, 0, early)) < 1e-6);
        let step = |tokens: &Tensor| steps(&model, &tokens.unsqueeze(0), &mut model.empty_state(1)).get(0);
        prop_assert_eq!(step(&tokens).narrow(0, 0, early), step(&changed).narrow(0, 0, early));
    }
}

/// Chunks tile every sequence: the first token starts one, and counts add up inwards.
#[test]
fn chunks_tile_every_sequence() {
    let _guard = tch::no_grad_guard();
    let model = model(5, -1, 3);
    let lengths = [17, 1, 40];
    let output = model.forward(&tokens(1, 58), &lengths);
    assert_eq!(output.routing.len(), 2);
    assert_eq!(output.routing[0].lengths, lengths);
    for (outer, inner) in output.routing.iter().zip(output.routing.iter().skip(1)) {
        assert_eq!(outer.chunks, inner.lengths);
    }
    for routing in &output.routing {
        let mut start = 0;
        for (length, chunks) in routing.lengths.iter().zip(&routing.chunks) {
            let mask = routing.mask.narrow(0, start, *length);
            assert_eq!(mask.int64_value(&[0]), 1);
            assert_eq!(mask.sum(Kind::Int64).int64_value(&[]), *chunks);
            start += length;
        }
    }
}

/// A piece in which no sequence has a token leaves the state as it was; so does no sequence.
#[test]
fn empty_pieces_change_nothing() {
    let _guard = tch::no_grad_guard();
    for layout in 0..LAYOUTS.len() {
        for window in [-1, 0, 3] {
            let model = model(layout, window, 1);
            let nothing = tokens(1, 0);
            let (output, fresh) = model.forward_from(&nothing, &[0, 0], None);
            assert_eq!(output.logits.size(), [0, 8]);
            let (whole, state) = model.forward_from(&tokens(2, 20), &[14, 6], Some(&fresh));
            let plain = model.forward(&tokens(2, 20), &[14, 6]);
            assert!(margin(&plain) > 1e-3, "rounding would decide");
            assert!(distance(&whole.logits, &plain.logits) < 1e-4);
            let (_, same) = model.forward_from(&nothing, &[0, 0], Some(&state));
            let next = tokens(9, 20).reshape([2, 10]);
            assert_eq!(
                steps(&model, &next, &mut state.fork()),
                steps(&model, &next, &mut same.fork())
            );
            assert_eq!(model.forward(&nothing, &[]).logits.size(), [0, 8]);
        }
    }
}

/// Every mixer's materialised matrix gives its output.
#[test]
fn matrices_equal_the_mixers() {
    let _guard = tch::no_grad_guard();
    for (layout, window, seed) in [(0, -1, 11), (2, -1, 11), (2, 3, 11)]
        .into_iter()
        .chain((0..8).map(|seed| (7 + seed as usize % 3, -1, seed)))
    {
        let model = model(layout, window, seed);
        for mixer in model.mixers() {
            let u = input(seed);
            let matrix = mixer.matrix(&u);
            assert_eq!(matrix.triu(1).abs().max().double_value(&[]), 0.0);
            let through = mixer.apply_matrix(&matrix, &u);
            assert!(distance(&through, &mixer.parallel(&u)) < 1e-4);
        }
    }
}

/// A state read back continues as the one that was saved.
#[test]
fn a_saved_state_continues() {
    let _guard = tch::no_grad_guard();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("state.safetensors");
    for layout in [5, 11] {
        let model = model(layout, 3, 4);
        let (_, state) = model.forward_from(&tokens(2, 30), &[18, 12], None);
        state.save(&path).expect("saved");
        let mut loaded = State::load(&path, &model.empty_state(1)).expect("loaded");
        assert_eq!(loaded.sequences(), 2);
        let next = tokens(9, 20).reshape([2, 10]);
        assert_eq!(
            steps(&model, &next, &mut loaded),
            steps(&model, &next, &mut state.fork())
        );
    }
}

/// Equal models are equal files, whatever the order in which metadata was put in.
#[test]
fn equal_models_are_equal_files() {
    let metadata = (0..20)
        .map(|i| (format!("key{i}"), i.to_string()))
        .collect();
    let bytes = || {
        let folder = tempfile::tempdir().expect("temporary folder");
        model(4, -1, 4)
            .save(folder.path(), &metadata)
            .expect("saved");
        std::fs::read(folder.path().join("model.safetensors")).expect("readable")
    };
    let first = bytes();
    assert!((0..4).all(|_| bytes() == first));
}

/// A model read back is the model that was written; damage and mismatches are named.
#[test]
fn model_folders_round_trip_and_name_what_is_wrong() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = model(4, -1, 4);
    model
        .save(folder.path(), &Default::default())
        .expect("saved");
    let loaded = HNet::load(folder.path(), Device::Cpu).expect("loaded");
    for ((name, a), (_, b)) in model.params().iter().zip(loaded.params().iter()) {
        assert_eq!(a.tensor, b.tensor, "{name}");
    }
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("readable");
    std::fs::write(&weights, &bytes[..bytes.len() - 10]).expect("writable");
    let error = HNet::load(folder.path(), Device::Cpu)
        .expect_err("truncated")
        .to_string();
    assert!(
        error.contains("truncated") && error.contains("model.safetensors"),
        "{error}"
    );
    std::fs::write(&weights, &bytes).expect("writable");
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).expect("readable");
    std::fs::write(&config, text.replace("\"d_state\": 8", "\"d_state\": 4")).expect("writable");
    let error = HNet::load(folder.path(), Device::Cpu)
        .expect_err("another config")
        .to_string();
    assert!(
        error.contains("in_proj") || error.contains("conv1d"),
        "{error}"
    );
}
