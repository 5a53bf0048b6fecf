//! The decode kernels against plain operators in fp64, on odd shapes, under masks and row lists.

use std::time::Instant;

use cistron_draws::seeded;
use cistron_kernels::dechunk::Ceiling;
use cistron_kernels::runtime;
use cistron_kernels::step::{
    Attention, Dechunk, Mamba2, Mamba3, Mamba3State, Route, Rows, attention, attention_plain,
    dechunk, dechunk_plain, mamba2, mamba2_plain, mamba3, mamba3_plain, route, route_plain,
};
use tch::{Device, Kind, Tensor};

fn device() -> Option<Device> {
    let device = (runtime::cuda_devices() > 0).then_some(Device::Cuda(0));
    if device.is_none() {
        eprintln!("no CUDA device: nothing is tested");
    }
    device
}

/// Draws what both sides share, in fp32 or rounded to bf16.
struct Draw(Device);

impl Draw {
    fn normal(&self, shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, self.0))
    }

    /// `[rows, width]` cut from something wider, so that rows have a stride of their own.
    fn projected(&self, rows: i64, width: i64, kind: Kind) -> Tensor {
        self.normal(&[rows, width + 5])
            .to_kind(kind)
            .narrow(1, 0, width)
    }
}

fn double(t: &Tensor) -> Tensor {
    t.to_kind(Kind::Double).contiguous().copy()
}

/// Largest difference, over the largest value expected.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    if found.numel() == 0 {
        return 0.0;
    }
    let difference = (double(found) - double(expected)).abs().max();
    difference.double_value(&[]) / double(expected).abs().max().double_value(&[]).max(1e-3)
}

/// Rounding of what is returned, relative to the largest value.
fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::Float { 1e-5 } else { 4e-3 }
}

/// Which states four rows are (of six where they are listed), and which rows run.
fn choices(device: Device) -> [(Option<Tensor>, Option<Tensor>); 4] {
    let index = || Some(Tensor::from_slice(&[4i64, 0, 5, 2]).to_device(device));
    let mask = || Some(Tensor::from_slice(&[true, false, true, true]).to_device(device));
    [
        (None, None),
        (None, mask()),
        (index(), None),
        (index(), mask()),
    ]
}

fn rows(choice: &(Option<Tensor>, Option<Tensor>)) -> (Rows<'_>, i64) {
    let rows = Rows {
        index: choice.0.as_ref(),
        mask: choice.1.as_ref(),
    };
    (rows, if choice.0.is_some() { 6 } else { 4 })
}

#[test]
fn mamba2_steps_equal_the_plain_form() {
    let Some(device) = device() else { return };
    let _held = seeded(1);
    let draw = Draw(device);
    let shapes = [
        // heads, head_dim, state, groups, width
        (2, 64, 128, 1, 4),
        (3, 8, 16, 1, 4),
        (2, 20, 24, 2, 4),
        (1, 64, 130, 1, 2),
        (4, 5, 7, 2, 1),
        (1, 96, 256, 1, 3),
        (2, 33, 64, 1, 4),
    ];
    for (heads, head_dim, states, groups, width) in shapes {
        for kind in [Kind::Float, Kind::BFloat16] {
            for choice in &choices(device) {
                let (rows, count) = rows(choice);
                let inner = heads * head_dim;
                let channels = inner + 2 * groups * states;
                let conv_weight = draw.normal(&[channels, 1, width]);
                let conv_bias = draw.normal(&[channels]);
                let [dt_bias, a_log, d] = [0; 3].map(|_| draw.normal(&[heads]));
                let weights = Mamba2 {
                    conv_weight: &conv_weight,
                    conv_bias: &conv_bias,
                    dt_bias: &dt_bias,
                    a_log: &a_log,
                    d: &d,
                    head_dim,
                    states,
                    groups,
                };
                let mut tail = draw.normal(&[count, width - 1, channels]);
                let mut ssm = draw.normal(&[count, heads, head_dim, states]);
                let (mut tail64, mut ssm64) = (double(&tail), double(&ssm));
                for _ in 0..3 {
                    let projected = draw.projected(4, inner + channels + heads, kind);
                    let y = mamba2(&projected, &weights, &mut tail, &mut ssm, rows);
                    let input = double(&projected);
                    let expected = mamba2_plain(&input, &weights, &mut tail64, &mut ssm64, rows);
                    let name = format!("{heads} {head_dim} {states} {kind:?} {choice:?}");
                    assert_eq!(y.kind(), kind);
                    assert!(error(&y, &expected) < tolerance(kind), "y: {name}");
                    assert!(error(&ssm, &ssm64) < 1e-5, "state: {name}");
                    assert!(error(&tail, &tail64) < 1e-6, "tail: {name}");
                }
            }
        }
    }
}

#[test]
fn mamba3_steps_equal_the_plain_form() {
    let Some(device) = device() else { return };
    let _held = seeded(2);
    let draw = Draw(device);
    let shapes = [
        // heads, head_dim, state, groups, rank, angles
        (2, 64, 128, 1, 1, 32),
        (2, 64, 128, 1, 4, 32),
        (3, 8, 16, 1, 2, 4),
        (2, 20, 24, 2, 3, 12),
        (1, 64, 34, 1, 1, 3),
        (4, 5, 6, 2, 2, 0),
        (1, 96, 256, 1, 4, 64),
    ];
    for (case, (heads, head_dim, states, groups, rank, angles)) in shapes.into_iter().enumerate() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for (number, choice) in choices(device).iter().enumerate() {
                let (rows, count) = rows(choice);
                let inner = heads * head_dim;
                let width = 2 * inner + 2 * groups * rank * states + 3 * heads + angles;
                let [b_bias, c_bias] = [0; 2].map(|_| draw.normal(&[heads, rank, states]));
                let [b_norm, c_norm] = [0; 2].map(|_| draw.normal(&[states]));
                let [dt_bias, d] = [0; 2].map(|_| draw.normal(&[heads]));
                let mimo = [0; 3].map(|_| draw.normal(&[heads, rank, head_dim]));
                let norm = draw.normal(&[inner]);
                let weights = Mamba3 {
                    dt_bias: &dt_bias,
                    b_norm: &b_norm,
                    c_norm: &c_norm,
                    b_bias: &b_bias,
                    c_bias: &c_bias,
                    d: &d,
                    mimo: (rank > 1).then(|| mimo.each_ref()),
                    norm: (case % 2 == 1).then_some(&norm),
                    head_dim,
                    states,
                    groups,
                    rank,
                    angles,
                    halves: rank > 1,
                    heavy_tail: number % 2 == 1,
                    floor: 1e-4,
                };
                let mut angle = draw.normal(&[count, heads, angles]);
                let mut ssm = draw.normal(&[count, heads, head_dim, states]);
                let mut k = draw.normal(&[count, rank, heads, states]);
                let mut v = draw.normal(&[count, heads, head_dim]);
                let mut exact = [&angle, &ssm, &k, &v].map(double);
                for _ in 0..3 {
                    let projected = draw.projected(4, width, kind);
                    let state = Mamba3State {
                        angle: &mut angle,
                        ssm: &mut ssm,
                        k: &mut k,
                        v: &mut v,
                    };
                    let y = mamba3(&projected, &weights, state, rows);
                    let [angle64, ssm64, k64, v64] = &mut exact;
                    let state = Mamba3State {
                        angle: angle64,
                        ssm: ssm64,
                        k: k64,
                        v: v64,
                    };
                    let expected = mamba3_plain(&double(&projected), &weights, state, rows);
                    let name = format!("{heads} {head_dim} {states} {rank} {kind:?} {choice:?}");
                    assert_eq!(y.kind(), kind);
                    assert!(error(&y, &expected) < tolerance(kind), "y: {name}");
                    assert!(error(&ssm, &exact[1]) < 1e-5, "state: {name}");
                    assert!(error(&k, &exact[2]) < 1e-5, "k: {name}");
                    assert!(error(&v, &exact[3]) < 1e-6, "v: {name}");
                    if angles > 0 {
                        // An angle near 0 may come out near 2π.
                        let apart = (double(&angle) - &exact[0]).sin().abs().max();
                        assert!(apart.double_value(&[]) < 1e-5, "angle: {name}");
                    }
                }
            }
        }
    }
}

#[test]
fn attention_steps_equal_the_plain_form() {
    let Some(device) = device() else { return };
    let _held = seeded(3);
    let draw = Draw(device);
    let shapes = [
        // heads, head_dim, rotary, window, slots
        (2, 64, 32, -1, 200),
        (2, 64, 64, 15, 16),
        (3, 20, 8, 0, 1),
        (1, 33, 0, 40, 64),
        (1, 128, 16, -1, 90),
        (1, 256, 256, 7, 8),
    ];
    for (heads, head_dim, rotary_dim, window, slots) in shapes {
        for kind in [Kind::Float, Kind::BFloat16] {
            for choice in &choices(device) {
                let (rows, count) = rows(choice);
                let sizes = Attention {
                    heads,
                    head_dim,
                    window,
                    rotary_dim,
                };
                let cache = [count, slots, heads, head_dim];
                let [mut k, mut v] = [0; 2].map(|_| draw.normal(&cache).to_kind(kind));
                let (mut k64, mut v64) = (double(&k), double(&v));
                let (mut k_plain, mut v_plain) = (k.copy(), v.copy());
                let seen = [0i64, 3, 17, 80, 40, 77];
                let seen = Tensor::from_slice(&seen[..count as usize]).to_device(device);
                for step in 0..3 {
                    let qkv = draw.projected(4, 3 * heads * head_dim, kind);
                    let seen = &seen + step;
                    let y = attention(&qkv, sizes, &mut k, &mut v, &seen, rows);
                    let input = double(&qkv);
                    let expected = attention_plain(&input, sizes, &mut k64, &mut v64, &seen, rows);
                    let name = format!("{heads} {head_dim} {window} {kind:?} {choice:?}");
                    let (keys, values) = (&mut k_plain, &mut v_plain);
                    let plain = attention_plain(&qkv, sizes, keys, values, &seen, rows);
                    // The cache holds rotated keys in bf16.
                    let room = match kind {
                        Kind::Float => 1e-5,
                        _ => tolerance(kind).max(2.0 * error(&plain, &expected)),
                    };
                    assert!(error(&y, &expected) < room, "y: {name}");
                    assert!(error(&k, &k64) < tolerance(kind), "k: {name}");
                    assert!(error(&v, &v64) < 1e-6, "v: {name}");
                }
            }
        }
    }
}

/// Share of the traffic of the SSM state that each step reaches: `cargo test -p cistron-kernels
/// --test cuda_step -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, on CUDA"]
fn bandwidth_of_the_steps() {
    let Some(device) = device() else { return };
    let draw = Draw(device);
    let normal = |shape: &[i64]| draw.normal(shape);
    let (count, head_dim, states) = (128, 64, 128);
    for heads in [16, 32, 64] {
        let inner = heads * head_dim;
        let mut ssm = normal(&[count, heads, head_dim, states]);
        let bytes = 8.0 * (count * inner * states) as f64;
        let report = |name: &str, step: &mut dyn FnMut() -> Tensor| {
            let mut run = |steps: u32| {
                let start = Instant::now();
                for _ in 1..steps {
                    let _ = step();
                }
                // Reading a value waits for all of them.
                let _ = step().sum(Kind::Float).double_value(&[]);
                start.elapsed().as_secs_f64() / f64::from(steps)
            };
            run(20);
            let time = run(500);
            let (micro, rate) = (time * 1e6, bytes / time / 1e9);
            println!("{name}, {heads} heads: {micro:.1} us a step, {rate:.0} GB/s of state");
        };
        let other = ssm.copy();
        report("copy of the state", &mut || {
            ssm.copy_(&other);
            ssm.narrow(0, 0, 1)
        });

        let channels = inner + 2 * states;
        let projected = draw.projected(count, inner + channels + heads, Kind::BFloat16);
        let (conv_weight, conv_bias) = (normal(&[channels, 1, 4]), normal(&[channels]));
        let [dt_bias, a_log, d] = [0; 3].map(|_| normal(&[heads]));
        let weights = Mamba2 {
            conv_weight: &conv_weight,
            conv_bias: &conv_bias,
            dt_bias: &dt_bias,
            a_log: &a_log,
            d: &d,
            head_dim,
            states,
            groups: 1,
        };
        let mut tail = normal(&[count, 3, channels]);
        report("Mamba-2", &mut || {
            mamba2(&projected, &weights, &mut tail, &mut ssm, Rows::default())
        });

        for rank in [1, 4] {
            let angles = states / 4;
            let width = 2 * inner + 2 * rank * states + 3 * heads + angles;
            let projected = draw.projected(count, width, Kind::BFloat16);
            let [b_bias, c_bias] = [0; 2].map(|_| normal(&[heads, rank, states]));
            let [b_norm, c_norm] = [0; 2].map(|_| normal(&[states]));
            let mimo = [0; 3].map(|_| normal(&[heads, rank, head_dim]));
            let weights = Mamba3 {
                dt_bias: &dt_bias,
                b_norm: &b_norm,
                c_norm: &c_norm,
                b_bias: &b_bias,
                c_bias: &c_bias,
                d: &d,
                mimo: (rank > 1).then(|| mimo.each_ref()),
                norm: None,
                head_dim,
                states,
                groups: 1,
                rank,
                angles,
                halves: rank > 1,
                heavy_tail: false,
                floor: 1e-4,
            };
            let mut angle = normal(&[count, heads, angles]);
            let mut k = normal(&[count, rank, heads, states]);
            let mut v = normal(&[count, heads, head_dim]);
            report(&format!("Mamba-3 of rank {rank}"), &mut || {
                let state = Mamba3State {
                    angle: &mut angle,
                    ssm: &mut ssm,
                    k: &mut k,
                    v: &mut v,
                };
                mamba3(&projected, &weights, state, Rows::default())
            });
        }
    }
}

#[test]
fn steps_of_chunking_stages_equal_the_plain_form() {
    let Some(device) = device() else { return };
    let _held = seeded(4);
    let draw = Draw(device);
    let mask = Tensor::from_slice(&[true, false, true, true, true]).to_device(device);
    for width in [1, 7, 64, 300, 512] {
        for kind in [Kind::Float, Kind::BFloat16] {
            for ceiling in [Ceiling::One, Ceiling::BelowOne] {
                let mut seen = Tensor::from_slice(&[0i64, 3, 0, 9, 1]).to_device(device);
                let mut last = draw.normal(&[5, width]);
                let mut average = draw.normal(&[5, width]);
                let mut seen64 = seen.copy();
                let (mut last64, mut average64) = (double(&last), double(&average));
                for _ in 0..3 {
                    let [q, k, now, residual] = [0; 4].map(|_| draw.normal(&[5, width]));
                    let given = Route {
                        q: &q,
                        k: &k,
                        now: &now,
                        mask: &mask,
                    };
                    let [prob, starting] = &route(given, &mut last, &mut seen);
                    let given = Route {
                        q: &double(&q),
                        k: &double(&k),
                        now: &double(&now),
                        mask: &mask,
                    };
                    let [prob64, starting64] = &route_plain(given, &mut last64, &mut seen64);
                    assert!(error(prob, prob64) < 1e-5, "prob: {width}");
                    assert_eq!((starting, &seen), (starting64, &seen64), "{width}");
                    assert_eq!(double(&last), last64, "last: {width}");

                    let z = draw.projected(5, width, kind);
                    let back = Dechunk {
                        z: &z,
                        prob,
                        starting,
                        residual: &residual,
                        ceiling,
                    };
                    let x = dechunk(back, &mut average);
                    let back = Dechunk {
                        z: &double(&z),
                        prob: prob64,
                        residual: &double(&residual),
                        ..back
                    };
                    let x64 = dechunk_plain(back, &mut average64);
                    assert!(error(&x, &x64) < 1e-5, "x: {width} {kind:?}");
                    assert!(error(&average, &average64) < 1e-5, "{width} {kind:?}");
                }
            }
        }
    }
}
