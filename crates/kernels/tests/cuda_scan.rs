//! The packed operators on CUDA against their definitions in fp64. Nothing is checked
//! where there is no CUDA device.

mod support;

use cistron_draws::seeded;
use cistron_kernels::mamba3::{RawGates, weights};
use cistron_kernels::ssm::{Scan, Turn};
use cistron_kernels::{Layout, conv, norm, rotary, swiglu};
use support::{CUDA, HALF, Leaf, Limits, ROUNDED, SINGLE, check, leaf, no_device, random};
use tch::{Device, Kind, Tensor};

/// Turns pairs of neighbouring channels of `v` `[heads, rank, state]` by `angle` `[heads, pairs]`.
fn turned(v: &Tensor, angle: &Tensor) -> Tensor {
    let (rows, rank, state) = v.size3().expect("three dimensions");
    let pairs = angle.size()[1];
    let parts = v
        .narrow(2, 0, 2 * pairs)
        .reshape([rows, rank, pairs, 2])
        .unbind(3);
    let (cos, sin) = (angle.cos().unsqueeze(1), angle.sin().unsqueeze(1));
    let first = &parts[0] * &cos - &parts[1] * &sin;
    let second = &parts[0] * &sin + &parts[1] * &cos;
    let front = Tensor::stack(&[first, second], 3).reshape([rows, rank, 2 * pairs]);
    Tensor::cat(&[front, v.narrow(2, 2 * pairs, state - 2 * pairs)], 2)
}

/// Rounded to bf16 both ways, but for fp64: what a product takes in a plain program.
fn half(t: &Tensor) -> Tensor {
    match t.kind() {
        Kind::Double => t.shallow_clone(),
        kind => t.to_kind(HALF).to_kind(kind),
    }
}

/// The recurrence, one token after another; one group. Inputs in the order of `check_scan`.
fn recurrence(t: &[Tensor], lengths: &[i64]) -> Vec<Tensor> {
    let kind = t[3].kind();
    let [x, b, c] = [0, 1, 2].map(|i| t[i].to_kind(kind));
    let [decay, weight, gamma, skip, initial] = &t[3..8] else {
        unreachable!("eight inputs at least")
    };
    let (_, heads, _, head_dim) = x.size4().expect("x is [tokens, heads, rank, head_dim]");
    let by_head = |v: Tensor| v.reshape([heads, 1, 1]);
    let (mut outputs, mut states, mut start) = (Vec::new(), Vec::new(), 0);
    for (row, &length) in (0i64..).zip(lengths) {
        let mut h = initial.get(row);
        let mut angle = None;
        for token in start..start + length {
            let project = |p: &Tensor, bias: usize, angle: &Option<Tensor>| {
                let p = p.get(token).squeeze_dim(1).unsqueeze(0);
                half(&match angle {
                    Some(angle) => turned(&(p + &t[bias]), angle),
                    None => p.expand([heads, -1, -1], false),
                })
            };
            if t.len() > 8 {
                let step = t[11].get(token).unsqueeze(1) * t[10].get(token).unsqueeze(0);
                angle = Some(match angle {
                    Some(angle) => angle + step,
                    None => step,
                });
            }
            let (b, c) = (project(&b, 8, &angle), project(&c, 9, &angle));
            let x = x.get(token);
            let kept = &h * by_head(decay.get(token).exp());
            let scores = half(&c.matmul(&b.transpose(1, 2)));
            let y = c.matmul(&half(&kept).transpose(1, 2))
                + half(&(scores * by_head(gamma.get(token)))).matmul(&x)
                + &x * by_head(skip.shallow_clone());
            outputs.push(half(&y));
            let put = half(&(&x * by_head(weight.get(token))));
            h = kept + put.transpose(1, 2).matmul(&b);
        }
        states.push(match angle {
            Some(angle) => turned(&h, &-angle),
            None => h,
        });
        start += length;
    }
    assert_eq!(states[0].size()[1], head_dim);
    vec![Tensor::stack(&outputs, 0), Tensor::stack(&states, 0)]
}

/// The first `count` of `t`, decays, weights, gammas and deltas shifted by what follows: its
/// gradients are sums over tokens, as those of biases and rates are.
fn shifted(t: &[Tensor], count: usize) -> Vec<Tensor> {
    let mut own: Vec<Tensor> = t[..count].iter().map(Tensor::shallow_clone).collect();
    for (gate, shift) in [3, 4, 5, 11].iter().zip(&t[count..]) {
        own[*gate] = &own[*gate] + shift;
    }
    own
}

/// With `sums`, of gradients of gates over tokens too, and without the room of a rounding.
fn check_scan(lengths: &[i64], sizes: [i64; 4], angles: Option<i64>, sums: bool) {
    let [heads, rank, head_dim, state] = sizes;
    let tokens: i64 = lengths.iter().sum();
    let delta = (random(&[tokens, heads]) - 3.5).exp();
    let share = random(&[tokens, heads]).sigmoid();
    let mut leaves = vec![
        leaf(&random(&[tokens, heads, rank, head_dim]), HALF),
        leaf(&random(&[tokens, rank, 1, state]), HALF),
        leaf(&random(&[tokens, rank, 1, state]), HALF),
        leaf(&-(&delta * random(&[tokens, heads]).exp()), SINGLE),
        leaf(&(&delta + 0.01), SINGLE),
        leaf(&(&delta * share), SINGLE),
        leaf(&random(&[heads]), SINGLE),
        leaf(
            &random(&[lengths.len() as i64, heads, head_dim, state]),
            SINGLE,
        ),
    ];
    if let Some(angles) = angles {
        let bias = || random(&[heads, rank, state]) * 0.3 + 1.0;
        leaves.push(leaf(&bias(), SINGLE));
        leaves.push(leaf(&bias(), SINGLE));
        leaves.push(leaf(
            &(random(&[tokens, angles]).tanh() * std::f64::consts::PI),
            SINGLE,
        ));
        leaves.push(leaf(&delta, SINGLE));
    }
    let layout = Layout::new(lengths, CUDA);
    let count = leaves.len();
    let shifts = if sums { count / 4 + 1 } else { 0 };
    leaves.extend(
        (0..shifts).map(|_| leaf(&Tensor::zeros([heads], (Kind::Double, Device::Cpu)), SINGLE)),
    );
    let fused = |t: &[Tensor], keep: bool| {
        let t = shifted(t, count);
        let scan = Scan {
            x: &t[0],
            b: &t[1],
            c: &t[2],
            turn: angles.map(|_| Turn {
                b_bias: &t[8],
                c_bias: &t[9],
                theta: &t[10],
                delta: &t[11],
            }),
            log_decay: &t[3],
            weight: &t[4],
            gamma: &t[5],
            skip: Some(&t[6]),
            initial: Some(&t[7]),
        };
        let (y, last) = scan.run(&layout, keep);
        std::iter::once(y).chain(last).collect()
    };
    for keep in [true, false] {
        if !keep && (sums || tokens == 1) {
            continue; // of one token nothing would depend on the weight
        }
        check(
            &format!("scan {lengths:?} {sizes:?} {angles:?} {keep}"),
            &leaves,
            // One rounding to bf16 is allowed, but for sums. In fp32 blocks take other operators.
            &Limits {
                single: f64::INFINITY,
                fp32: if sums { ROUNDED.fp32 } else { 4e-3 },
                ..ROUNDED
            },
            &|t| {
                let mut outputs = recurrence(&shifted(t, count), lengths);
                outputs.truncate(1 + usize::from(keep));
                outputs
            },
            &|t| fused(t, keep),
        );
    }
}

#[test]
fn scans_are_the_recurrence() {
    if no_device() {
        return;
    }
    let _held = seeded(1);
    for lengths in [vec![1], vec![64], vec![0, 65, 3], vec![300, 1, 63]] {
        check_scan(&lengths, [3, 1, 64, 128], None, false);
        check_scan(&lengths, [2, 1, 32, 64], None, false);
        check_scan(&lengths, [3, 1, 64, 128], Some(32), false);
        check_scan(&lengths, [2, 1, 64, 64], Some(32), false);
    }
    for rank in [2, 4, 8] {
        check_scan(&[33, 1, 20], [2, rank, 64, 128], Some(32), false);
    }
    // Of many heads, since sums over tokens nearly cancel in some.
    check_scan(&[1, 131, 20], [16, 1, 64, 128], None, true);
    for rank in [1, 2, 4, 8] {
        check_scan(&[1, 131, 20], [16, rank, 64, 128], Some(32), true);
    }
}

#[test]
fn gates_of_mamba3_are_the_plain_form() {
    if no_device() {
        return;
    }
    let _held = seeded(4);
    for (lengths, heads, angles) in [
        (vec![1], 1, 3),
        (vec![0, 70, 3, 900], 9, 32),
        (vec![5], 2, 0),
    ] {
        let tokens = lengths.iter().sum();
        let leaves = [
            leaf(&(random(&[tokens, 3 * heads + angles]) * 2.0), HALF),
            leaf(&random(&[heads]), SINGLE),
        ];
        for heavy_tail in [false, true] {
            let run = |t: &[Tensor], fused: bool| {
                let layout = Layout::new(&lengths, t[0].device());
                let gates = RawGates {
                    values: &t[0],
                    dt_bias: &t[1],
                    heavy_tail,
                    floor: 0.25,
                };
                let gates = gates.run(fused.then_some(&layout));
                let [gamma, weight] = gates
                    .weights
                    .unwrap_or_else(|| weights(&gates.delta, &gates.trap, &layout));
                vec![gates.theta, gates.delta, gates.log_decay, gamma, weight]
            };
            check(
                &format!("gates {lengths:?} {heads} {angles} {heavy_tail}"),
                &leaves,
                &ROUNDED,
                &|t| run(t, false),
                &|t| run(t, true),
            );
        }
    }
}

#[test]
fn convolutions_are_the_plain_form() {
    if no_device() {
        return;
    }
    let _held = seeded(2);
    for (lengths, width) in [(vec![1], 4), (vec![2, 0, 70, 300], 4), (vec![40, 1], 2)] {
        let tokens = lengths.iter().sum();
        let leaves = [
            leaf(&random(&[tokens, 24]), HALF),
            leaf(&random(&[24, 1, width]), SINGLE),
            leaf(&random(&[24]), SINGLE),
            leaf(&random(&[lengths.len() as i64, width - 1, 24]), SINGLE),
        ];
        let run = |t: &[Tensor], plain: bool| {
            let layout = Layout::new(&lengths, t[0].device());
            let y = if plain {
                let x = layout.pad(&t[0]);
                let (y, _) = conv::causal_conv1d_silu(&x, &t[1], &t[2], Some(&t[3]));
                layout.unpad(&y)
            } else {
                conv::packed(&t[0], &t[1], &t[2], Some(&t[3]), &layout)
            };
            // The tail is a copy in fp32 either way.
            vec![y, conv::packed_tail(&t[0], Some(&t[3]), &layout, width)]
        };
        check(
            &format!("convolution {lengths:?}"),
            &leaves,
            &ROUNDED,
            &|t| run(t, true),
            &|t| run(t, false),
        );
    }
}

#[test]
fn norms_gates_and_rotations_are_the_plain_forms() {
    if no_device() {
        return;
    }
    let _held = seeded(3);
    for width in [8, 256, 776, 2048] {
        let rows = |kind| leaf(&random(&[37, width]), kind);
        let weight = || leaf(&random(&[width]), SINGLE);
        let inputs: [Leaf; 3] = [rows(SINGLE), rows(HALF), weight()];
        check(
            &format!("add norm {width}"),
            &inputs,
            &ROUNDED,
            &|t| {
                let sum = &t[0] + &t[1];
                let y = norm::rms_norm(&sum, &t[2]).to_kind(t[1].kind());
                vec![sum, y]
            },
            &|t| {
                let (sum, y) = norm::add_rms_norm(&t[0], Some(&t[1]), &t[2], t[1].kind());
                vec![sum, y]
            },
        );
        check(
            &format!("gated norm {width}"),
            &[rows(HALF), rows(HALF), weight()],
            &ROUNDED,
            &|t| vec![norm::rms_norm(&(&t[0] * t[1].silu()), &t[2])],
            &|t| vec![norm::gated_rms_norm(&t[0], &t[1], &t[2])],
        );
        check(
            &format!("SwiGLU {width}"),
            &[leaf(&random(&[37, 2 * width]), HALF)],
            &ROUNDED,
            &|t| vec![swiglu::swiglu_plain(&t[0])],
            &|t| vec![swiglu::swiglu(&t[0])],
        );
    }
    let positions = Tensor::arange(50, (Kind::Int64, Device::Cpu));
    let at = |t: &Tensor| positions.to_device(t.device());
    check(
        "rotary",
        &[leaf(&random(&[50, 3, 2, 64]), HALF)],
        &ROUNDED,
        &|t| {
            let parts = t[0].unbind(1);
            let turned = |i: usize| rotary::rotate(&parts[i], &at(&t[0]), 32);
            vec![turned(0), turned(1), parts[2].shallow_clone()]
        },
        &|t| rotary::rotate_joined(&t[0], &at(&t[0]), 32).into(),
    );
}
