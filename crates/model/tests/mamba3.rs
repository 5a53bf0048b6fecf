//! Mamba-3 blocks: identities between their kinds, exchange of layouts, and a state that counts.

use std::path::Path;

use cistron_draws::seeded;
use cistron_kernels::Layout;
use cistron_model::config::mamba3::{DecayActivation, Mamba3Shape, RotaryLayout};
use cistron_model::mixer::Mamba3;
use cistron_model::mixer::mamba3::exchange::with_rotary_layout;
use cistron_model::{Config, HNet};
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

fn shape(rank: i64, mimo: bool) -> Mamba3Shape {
    Mamba3Shape {
        width: 12,
        heads: 3,
        head_dim: 8,
        states: 16,
        groups: 1,
        rank,
        mimo,
        angles: 4,
        halves: mimo,
        norm: false,
        activation: DecayActivation::Softplus,
        floor: 1e-4,
    }
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn parallel(mixer: &Mamba3, u: &Tensor) -> Tensor {
    let layout = Layout::new(&[u.size()[0]], Device::Cpu);
    mixer.run(u, &layout, None, false).0
}

/// Ranks with the same B and C, and factors at their initial values, are one input: x/R enters R
/// times, and of R outputs the mean is taken. The skip alone is divided by R.
#[test]
fn mimo_with_equal_ranks_is_siso() {
    let _guard = tch::no_grad_guard();
    let _held = seeded(5);
    let (siso, mimo) = (shape(1, false), shape(4, true));
    let parts: Vec<Tensor> = siso
        .widths()
        .iter()
        .map(|&rows| Tensor::randn([rows, 12], FLOAT))
        .collect();
    let out = Tensor::randn([12, 24], FLOAT);
    let bias = Tensor::randn([3, 1, 16], FLOAT);
    let norm = Tensor::rand([16], FLOAT) + 0.5;
    // Pairs (2 i, 2 i + 1) of one are pairs (i, i + 8) of the other.
    let order: Vec<i64> = (0..16).map(|i| i % 8 * 2 + i / 8).collect();
    let order = Tensor::from_slice(&order);
    let one = |name: &str| match name {
        "in_proj.weight" => Tensor::cat(&parts, 0),
        "out_proj.weight" => out.shallow_clone(),
        "B_bias" => bias.shallow_clone(),
        "C_bias" => &bias * 0.7,
        "B_norm.weight" | "C_norm.weight" => norm.shallow_clone(),
        "D" => Tensor::ones([3], FLOAT) * 0.3,
        "dt_bias" => Tensor::zeros([3], FLOAT),
        other => panic!("{other}"),
    };
    let many = |name: &str| match name {
        "in_proj.weight" => {
            let mut parts: Vec<Tensor> = parts.iter().map(Tensor::shallow_clone).collect();
            for part in &mut parts[2..4] {
                *part = part.index_select(0, &order).repeat([4, 1]);
            }
            Tensor::cat(&parts, 0)
        }
        "B_bias" | "C_bias" => one(name).index_select(2, &order).repeat([1, 4, 1]),
        "B_norm.weight" | "C_norm.weight" => one(name).index_select(0, &order),
        "mimo_x" | "mimo_o" => Tensor::ones([3, 4, 8], FLOAT) * 0.25,
        "mimo_z" => Tensor::ones([3, 4, 8], FLOAT),
        "D" => one(name) * 4.0,
        other => one(other),
    };
    let (siso, mimo) = (Mamba3::new(siso, one), Mamba3::new(mimo, many));
    let u = Tensor::randn([150, 12], FLOAT);
    let expected = parallel(&siso, &u);
    let scale = expected.abs().max().double_value(&[]);
    assert!(distance(&parallel(&mimo, &u), &expected) < 1e-5 * scale);
}

/// A parity checker by hand: the token 1 turns the state by half a turn, then adds -2; the token
/// 0 leaves it alone. The state is -2 after an odd number of ones and 0 after an even one.
fn parity_checker(turning: bool) -> Mamba3 {
    let shape = Mamba3Shape {
        width: 2,
        heads: 1,
        head_dim: 1,
        states: 2,
        groups: 1,
        rank: 1,
        mimo: false,
        angles: 1,
        halves: false,
        norm: false,
        activation: DecayActivation::Softplus,
        floor: 1e-4,
    };
    // Columns are the tokens 0 and 1; rows z, x, B, C, Δ, A, λ, θ.
    let turn = if turning { 20.0 } else { 0.0 };
    let rows: [f32; 20] = [
        1.278_464_5,
        1.278_464_5,
        0.0,
        -2.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        -40.0,
        0.541_324_9,
        -20.0,
        -20.0,
        40.0,
        40.0,
        0.0,
        turn,
    ];
    Mamba3::new(shape, |name| match name {
        "in_proj.weight" => Tensor::from_slice(&rows).reshape([10, 2]),
        "B_bias" | "C_bias" => Tensor::from_slice(&[1.0f32, 0.0]).reshape([1, 1, 2]),
        "B_norm.weight" | "C_norm.weight" => Tensor::ones([2], FLOAT),
        "out_proj.weight" => Tensor::from_slice(&[1.0f32, 0.0]).reshape([2, 1]),
        "D" | "dt_bias" => Tensor::zeros([1], FLOAT),
        other => panic!("{other}"),
    })
}

#[test]
fn a_turning_state_counts_modulo_two_and_a_still_one_does_not() {
    let _guard = tch::no_grad_guard();
    let length = 4096usize;
    let mut state = 7u64;
    let bits: Vec<i64> = (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 63) as i64
        })
        .collect();
    let odd: Vec<bool> = bits
        .iter()
        .scan(0, |sum, bit| {
            *sum += bit;
            Some(*sum % 2 == 1)
        })
        .collect();
    let u = Tensor::from_slice(&bits).one_hot(2).to_kind(Kind::Float);
    let outputs = |turning: bool| {
        let y = parallel(&parity_checker(turning), &u).select(1, 0);
        Vec::<f32>::try_from(&y).expect("numbers")
    };
    let right = |y: &[f32], below: f32| {
        y.iter()
            .zip(&odd)
            .filter(|(y, odd)| (**y < below) == **odd)
            .count()
    };
    assert_eq!(right(&outputs(true), -1.0), length);
    // Without rotation the best threshold is little better than a coin.
    let still = outputs(false);
    let best = still
        .iter()
        .map(|&below| right(&still, below).max(length - right(&still, below)))
        .max();
    assert!(
        best.expect("4096 thresholds") < length * 60 / 100,
        "{best:?}"
    );
}

fn model(layout: &str, rotary: &str) -> HNet {
    let text = format!(
        r#"{{"arch_layout": {layout}, "d_model": [32, 48], "d_intermediate": [64, 64],
            "vocab_size": 8, "ssm_cfg": {{"d_state": 16, "headdim": 16, "ngroups": [2, 3]}},
            "cistron": {{"mamba3": {{"rank": 2, "rotary_layout": "{rotary}"}}}}}}"#
    );
    let config = Config::from_json(&text, Path::new("config.json")).expect("valid");
    let model = HNet::new(&config, 3, Device::Cpu).expect("valid");
    let _guard = tch::no_grad_guard();
    for (name, param) in model.params().iter() {
        if name.contains("mixer.") {
            let _held = seeded(name.len() as i64);
            let noise = Tensor::randn(param.tensor.size(), FLOAT) * 0.1;
            let _ = param.tensor.shallow_clone().g_add_(&noise);
        }
    }
    model
}

#[test]
fn a_model_is_the_same_in_either_rotary_layout() {
    let _guard = tch::no_grad_guard();
    let tokens = Tensor::arange(90, (Kind::Int64, Device::Cpu)).remainder(4);
    let original = model(r#"["b1R1", ["r1b1"], "B1"]"#, "reference");
    let expected = original.forward(&tokens, &[70, 20]).logits;
    for layout in [RotaryLayout::Half, RotaryLayout::Pairwise] {
        let other = with_rotary_layout(&original, layout).expect("converted");
        let logits = other.forward(&tokens, &[70, 20]).logits;
        assert!(distance(&logits, &expected) < 1e-5);
        // Saved and read, it is still that model.
        let folder = tempfile::tempdir().expect("temporary folder");
        other
            .save(folder.path(), &Default::default())
            .expect("saved");
        let loaded = HNet::load(folder.path(), Device::Cpu).expect("loaded");
        assert_eq!(loaded.forward(&tokens, &[70, 20]).logits, logits);
        let back = with_rotary_layout(&other, RotaryLayout::Reference).expect("converted");
        for ((name, a), (_, b)) in back.params().iter().zip(original.params().iter()) {
            assert_eq!(a.tensor, b.tensor, "{name}");
        }
    }
}

/// Gradients reach a memory that is given, and through the one that is returned.
#[test]
fn memories_are_differentiable() {
    for rank in [1, 2] {
        let shape = shape(rank, rank > 1);
        let names = shape.parameters();
        let mixer = Mamba3::new(shape, |name| {
            let sizes = &names
                .iter()
                .find(|(known, _)| *known == name)
                .expect("known")
                .1;
            Tensor::ones(sizes, FLOAT) * 0.1
        });
        let layout = Layout::new(&[9], Device::Cpu);
        let u = Tensor::arange(9 * 12, FLOAT).sin().reshape([9, 12]);
        let given = mixer
            .empty_memory(1, Device::Cpu)
            .map(|t| (t + 0.3).set_requires_grad(true));
        let (y, last) = mixer.run(&u, &layout, Some(&given), true);
        let last = last.expect("asked for");
        let parts = [&last.angle, &last.ssm, &last.k, &last.v].map(|t| t.sum(Kind::Float));
        let loss = y.sum(Kind::Float) + parts.iter().sum::<Tensor>();
        loss.backward();
        for (name, leaf) in [
            ("angle", &given.angle),
            ("ssm", &given.ssm),
            ("k", &given.k),
            ("v", &given.v),
        ] {
            let grad = leaf.grad();
            assert!(grad.isfinite().all().int64_value(&[]) == 1, "{name}");
            assert!(grad.abs().max().double_value(&[]) > 0.0, "{name}");
        }
    }
}
