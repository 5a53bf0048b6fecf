//! Operators that join several, on CUDA, against their definitions in fp64. Nothing is
//! checked where there is no CUDA device.

mod support;

use cistron_draws::seeded;
use cistron_kernels::chunk::{self, Weights};
use cistron_kernels::dechunk::{Ceiling, Dechunk};
use cistron_kernels::scan::Scan;
use cistron_kernels::{Layout, Packed, attention, conv, entropy, linear, mamba2, norm, swiglu};
use support::{CUDA, HALF, Limits, ROUNDED, SINGLE, check, leaf, no_device, random};
use tch::{Device, Kind, Tensor};

const EXACT: Limits = Limits {
    single: 1e-5,
    fp32: 2e-5,
    bf16: 4e-3,
    times: 2.0,
};

#[test]
fn norms_and_gates_with_their_products() {
    if no_device() {
        return;
    }
    let _held = seeded(5);
    for (width, out, spare) in [(8, 24, 0), (264, 43, 5), (1536, 64, 0)] {
        let inputs = [
            leaf(&random(&[70, width]), SINGLE),
            leaf(&random(&[70, width]), HALF),
            leaf(&random(&[width]), SINGLE),
            leaf(&(random(&[out, width]) * 0.1), SINGLE),
        ];
        let plain = |t: &[Tensor]| {
            let sum = &t[0] + &t[1];
            let y = norm::rms_norm(&sum, &t[2]).to_kind(t[1].kind());
            let w = t[3].to_kind(t[1].kind()).constant_pad_nd([0, 0, 0, spare]);
            vec![sum, linear(&y, &w)]
        };
        let fused = |t: &[Tensor]| {
            let kind = t[1].kind();
            let (sum, y) = norm::add_rms_norm_linear(&t[0], Some(&t[1]), &t[2], &t[3], spare, kind);
            vec![sum, y]
        };
        check(
            &format!("norm and product {width}"),
            &inputs,
            &ROUNDED,
            &plain,
            &fused,
        );

        let inputs = [
            leaf(&random(&[70, 2 * width]), HALF),
            leaf(&(random(&[out, width]) * 0.1), SINGLE),
        ];
        check(
            &format!("SwiGLU and product {width}"),
            &inputs,
            &ROUNDED,
            &|t| vec![linear(&swiglu::swiglu_plain(&t[0]), &t[1])],
            &|t| vec![swiglu::swiglu_linear(&t[0], &t[1])],
        );
        // Gates first, as in a projection's rows.
        let apart = |x: &Tensor| (x.narrow(1, width, width), x.narrow(1, 0, width));
        check(
            &format!("gated product {width}"),
            &inputs,
            &ROUNDED,
            &|t| {
                let (value, gate) = apart(&t[0]);
                vec![linear(&(gate.silu() * value), &t[1])]
            },
            &|t| {
                let (value, gate) = apart(&t[0]);
                vec![swiglu::gated_linear(&value, &gate, &t[1])]
            },
        );
    }
}

/// The block by libtorch's operators, a sequence after another.
fn plain_block(t: &[Tensor], lengths: &[i64], head_dim: i64, states: i64) -> Vec<Tensor> {
    let heads = t[3].size()[0];
    let inner = heads * head_dim;
    let kind = match t[0].kind() {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    };
    let (mut outputs, mut lasts, mut start) = (Vec::new(), Vec::new(), 0);
    for (row, &length) in (0i64..).zip(lengths) {
        let p = t[0].narrow(0, start, length);
        start += length;
        let z = p.narrow(1, 0, inner);
        let xbc = p.narrow(1, inner, inner + 2 * states).unsqueeze(0);
        let dt = p.narrow(1, 2 * inner + 2 * states, heads).unsqueeze(0);
        let tail = t[8].narrow(0, row, 1);
        let (mixed, _) = conv::causal_conv1d_silu(&xbc, &t[1], &t[2], Some(&tail));
        let mixed = mixed.to_kind(kind);
        let delta = (dt.to_kind(kind) + &t[3]).softplus();
        let x = mixed
            .narrow(2, 0, inner)
            .reshape([1, length, heads, head_dim]);
        let scan = Scan {
            log_decay: &-(&delta * t[4].exp()),
            weight: &delta,
            x: &x,
            b: &mixed.narrow(2, inner, states),
            c: &mixed.narrow(2, inner + states, states),
        };
        let (y, last) = scan.run(Some(&t[9].narrow(0, row, 1)));
        let y = (y + &x * t[5].unsqueeze(-1)).reshape([length, inner]);
        let normed = norm::rms_norm(&(y * z.silu()), &t[6]);
        outputs.push(linear(&normed.to_kind(t[0].kind()), &t[7]));
        lasts.push(last);
    }
    vec![Tensor::cat(&outputs, 0), Tensor::cat(&lasts, 0)]
}

#[test]
fn mamba2_blocks_are_their_parts() {
    if no_device() {
        return;
    }
    let _held = seeded(6);
    for (lengths, heads, head_dim, states) in [
        (vec![1], 8, 64, 128),
        (vec![130, 0, 3, 300], 4, 64, 128),
        (vec![2, 70], 12, 32, 64),
    ] {
        let (inner, tokens) = (heads * head_dim, lengths.iter().sum::<i64>());
        let (channels, sequences) = (inner + 2 * states, lengths.len() as i64);
        let spare = (8 - (inner + channels + heads) % 8) % 8;
        let inputs = [
            leaf(&random(&[tokens, inner + channels + heads + spare]), HALF),
            leaf(&(random(&[channels, 1, 4]) * 0.5), SINGLE),
            leaf(&(random(&[channels]) * 0.5), SINGLE),
            leaf(&(random(&[heads]) - 3.0), SINGLE),
            leaf(&random(&[heads]), SINGLE),
            leaf(&random(&[heads]), SINGLE),
            leaf(&random(&[inner]), SINGLE),
            leaf(&(random(&[40, inner]) * 0.1), SINGLE),
            leaf(&random(&[sequences, 3, channels]), SINGLE),
            leaf(&random(&[sequences, heads, head_dim, states]), SINGLE),
        ];
        let layout = Layout::new(&lengths, CUDA);
        let fused = |t: &[Tensor]| {
            let block = mamba2::Block {
                conv_weight: &t[1],
                conv_bias: &t[2],
                dt_bias: &t[3],
                a_log: &t[4],
                d: &t[5],
                norm: &t[6],
                out_proj: &t[7],
                head_dim,
                states,
            };
            if t[0].kind() != HALF {
                return plain_block(t, &lengths, head_dim, states);
            }
            assert!(block.supported(&t[0]));
            let before = mamba2::Before {
                tail: &t[8],
                state: &t[9],
            };
            let (y, last) = block.run(&t[0], &layout, Some(before), true);
            vec![y, last.expect("asked for")]
        };
        check(
            &format!("Mamba-2 block {lengths:?}"),
            &inputs,
            // The plain scan is fp32 inside, so a small error of it says little.
            &Limits {
                single: 1e-5,
                fp32: 6e-3,
                bf16: 2.5e-2,
                times: 4.0,
            },
            &|t| plain_block(t, &lengths, head_dim, states),
            &fused,
        );
    }
}

#[test]
fn routers_and_dechunk_layers_are_the_plain_forms() {
    if no_device() {
        return;
    }
    let _held = seeded(7);
    for (lengths, width) in [
        (vec![1i64], 8),
        (vec![0, 700, 1, 5], 264),
        (vec![2000], 768),
    ] {
        let tokens = lengths.iter().sum::<i64>();
        let eye = Tensor::eye(width, (Kind::Double, Device::Cpu));
        let inputs = [
            leaf(&random(&[tokens, width]), HALF),
            leaf(&(random(&[width, width]) * 0.05 + &eye), SINGLE),
            leaf(&(random(&[width, width]) * 0.05 + &eye), SINGLE),
            leaf(&(random(&[width, width]) * 0.05), SINGLE),
            leaf(&random(&[width]), SINGLE),
        ];
        let routed = |t: &[Tensor], plain: bool| {
            let x = Packed::new(t[0].shallow_clone(), Layout::new(&lengths, t[0].device()));
            let weights = Weights {
                q: &t[1],
                k: &t[2],
                residual: &t[3],
                residual_bias: &t[4],
            };
            let route = if plain {
                chunk::route_plain
            } else {
                chunk::route
            };
            let decision = route(&x, &weights, None, None);
            let sure = (&decision.prob - 0.5).abs().gt(1e-4);
            let agrees = decision.prob.gt(0.5).eq_tensor(&decision.mask);
            assert!(bool::try_from(agrees.logical_or(&sure.logical_not()).all()).expect("bool"));
            vec![decision.prob, decision.residual]
        };
        check(
            &format!("router {lengths:?}"),
            &inputs,
            &EXACT,
            &|t| routed(t, true),
            &|t| routed(t, false),
        );

        // Places, and rows that go in and come back.
        let layout = Layout::new(&lengths, Device::Cpu);
        let starts: Vec<i64> = (0..lengths.len())
            .filter(|&i| lengths[i] > 0)
            .map(|i| layout.offsets()[i])
            .collect();
        let prob = Tensor::rand([tokens], (Kind::Double, Device::Cpu)).index_fill(
            0,
            &Tensor::from_slice(&starts),
            1.0,
        );
        let mask = prob.gt(0.6);
        let here = chunk::places(&mask, &layout, false);
        let there = chunk::places(&mask.to_device(CUDA), &Layout::new(&lengths, CUDA), false);
        assert_eq!(here.chunks, there.chunks);
        assert_eq!(here.boundaries, there.boundaries.to_device(Device::Cpu));
        assert_eq!(here.source, there.source.to_device(Device::Cpu));

        check(
            "gather",
            &[leaf(&random(&[tokens, width]), HALF)],
            &EXACT,
            &|t| vec![t[0].index_select(0, &here.boundaries.to_device(t[0].device()))],
            &|t| vec![chunk::gather(&t[0], &there, &mask.to_device(CUDA))],
        );

        let inputs = [
            leaf(&random(&[here.total(), width]), HALF),
            leaf(&prob, SINGLE),
            leaf(&random(&[tokens, width]), SINGLE),
        ];
        for ceiling in [Ceiling::One, Ceiling::BelowOne] {
            let back = |t: &[Tensor], plain: bool| {
                let device = t[0].device();
                let z = Packed::new(t[0].shallow_clone(), Layout::new(&here.chunks, device));
                let on = |t: &Tensor| t.to_device(device);
                let places = chunk::Places {
                    chunks: here.chunks.clone(),
                    boundaries: on(&here.boundaries),
                    source: on(&here.source),
                };
                let layer = Dechunk {
                    z: &z,
                    prob: &t[1],
                    mask: &on(&mask),
                    places: &places,
                    positions: &on(layout.positions()),
                    residual: &t[2],
                    average: None,
                    ceiling,
                };
                let (out, last) = if plain {
                    layer.run_plain()
                } else {
                    let (out, last) = layer.run(true);
                    (out, last.expect("asked for"))
                };
                vec![out, last]
            };
            check(
                &format!("dechunk {lengths:?} {ceiling:?}"),
                &inputs,
                &EXACT,
                &|t| back(t, true),
                &|t| back(t, false),
            );
        }
    }
}

#[test]
fn logits_and_their_cost() {
    if no_device() {
        return;
    }
    let _held = seeded(8);
    for (tokens, vocabulary) in [(1, 8), (1000, 8), (333, 3), (517, 256)] {
        let targets = Tensor::randint(vocabulary, [tokens], (Kind::Int64, Device::Cpu));
        let _ = targets.narrow(0, 0, 1).fill_(-100);
        let cost = |t: &[Tensor], plain: bool| {
            let targets = targets.to_device(t[0].device());
            let cost = if plain {
                entropy::cross_entropy_plain
            } else {
                entropy::cross_entropy
            };
            vec![cost(&t[0], &targets, -100)]
        };
        check(
            &format!("cross-entropy {tokens} {vocabulary}"),
            &[leaf(&(random(&[tokens, vocabulary]) * 3.0), SINGLE)],
            &EXACT,
            &|t| cost(t, true),
            &|t| cost(t, false),
        );
    }
    let inputs = [
        leaf(&random(&[90, 64]), HALF),
        leaf(&random(&[8, 64]), SINGLE),
    ];
    let plain = |t: &[Tensor]| {
        let kind = t[1].kind();
        vec![t[0].to_kind(kind).linear(&t[1], None::<&Tensor>)]
    };
    check("logits", &inputs, &EXACT, &plain, &|t| {
        vec![cistron_kernels::linear_float(&t[0], &t[1])]
    });
}

#[test]
fn attention_has_the_same_gradients_from_run_to_run() {
    if no_device() {
        return;
    }
    let _held = seeded(9);
    attention::reproducible(true);
    let lengths = [300, 1, 515];
    let inputs: Vec<support::Leaf> = (0..3).map(|_| leaf(&random(&[816, 4, 64]), HALF)).collect();
    for window in [-1, 100] {
        let run = |t: &[Tensor]| {
            let layout = Layout::new(&lengths, t[0].device());
            vec![attention::packed(&t[0], &t[1], &t[2], &layout, window)]
        };
        let limits = Limits {
            single: 1e-5,
            fp32: 1e-5,
            bf16: 1.5e-2,
            times: 2.0,
        };
        check(&format!("attention {window}"), &inputs, &limits, &run, &run);
    }
}

#[test]
fn plain_scans_in_fp32_are_as_near_as_fp32_can_be() {
    if no_device() {
        return;
    }
    let _held = seeded(10);
    let (length, heads, head_dim, states) = (333, 3, 64, 128);
    let delta = (random(&[2, length, heads]) - 3.5).exp();
    let inputs = [
        leaf(&random(&[2, length, heads, head_dim]), SINGLE),
        leaf(&random(&[2, length, states]), SINGLE),
        leaf(&random(&[2, length, states]), SINGLE),
        leaf(&delta, SINGLE),
        leaf(&random(&[2, heads, head_dim, states]), SINGLE),
    ];
    let run = |t: &[Tensor]| {
        let scan = Scan {
            log_decay: &-&t[3],
            weight: &t[3],
            x: &t[0],
            b: &t[1],
            c: &t[2],
        };
        let (y, last) = scan.run(Some(&t[4]));
        vec![y, last]
    };
    let limits = Limits {
        single: 1e-5,
        fp32: 1e-5,
        bf16: 1e-5,
        times: 2.0,
    };
    check("plain scan", &inputs, &limits, &run, &run);
}
