//! The packed operators on CUDA against their definitions in fp64. Nothing is checked
//! where there is no CUDA device.

use cistron_kernels::ssm::{Scan, Turn};
use cistron_kernels::{Layout, conv, norm, rotary, runtime, swiglu};
use tch::{Device, Kind, Tensor};

const CUDA: Device = Device::Cuda(0);
/// What rounding to bf16 costs, with room for sums of rounded values.
const BF16: f64 = 1.5e-2;

fn no_device() -> bool {
    let none = runtime::cuda_devices() == 0 || !runtime::kernels_built();
    if none {
        eprintln!("no CUDA device or no kernels: nothing is checked");
    }
    none
}

fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    let (got, expected) = (
        got.to_device(Device::Cpu).to_kind(Kind::Double),
        expected.to_kind(Kind::Double),
    );
    let norm = expected.norm().double_value(&[]).max(1e-30);
    (got - expected).norm().double_value(&[]) / norm
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

/// A leaf in fp64 whose values are exact in `kind`, and its copy on the GPU.
fn pair(values: &Tensor, kind: Kind) -> (Tensor, Tensor) {
    let rounded = values.to_kind(kind);
    (
        rounded.to_kind(Kind::Double).set_requires_grad(true),
        rounded.to_device(CUDA).set_requires_grad(true),
    )
}

/// Compares outputs, and gradients of their sums weighted at random.
fn compare(
    name: &str,
    leaves: &[(Tensor, Tensor)],
    expected: &[Tensor],
    got: &[Tensor],
    limit: f64,
) {
    let mut loss = Tensor::zeros([], (Kind::Double, Device::Cpu));
    let mut device_loss = Tensor::zeros([], (Kind::Float, CUDA));
    for (i, (expected, got)) in expected.iter().zip(got).enumerate() {
        let error = distance(got, expected);
        assert!(error < limit, "{name}: output {i} is {error:e} away");
        let weight = random(&expected.size()).to_kind(Kind::BFloat16);
        loss += (expected * weight.to_kind(Kind::Double)).sum(Kind::Double);
        let weight = weight.to_device(CUDA).to_kind(Kind::Float);
        device_loss += (got.to_kind(Kind::Float) * weight).sum(Kind::Float);
    }
    let wanted: Vec<&Tensor> = leaves.iter().map(|(leaf, _)| leaf).collect();
    let given: Vec<&Tensor> = leaves.iter().map(|(_, leaf)| leaf).collect();
    let wanted = Tensor::run_backward(&[loss], &wanted, false, false);
    let given = Tensor::run_backward(&[device_loss], &given, false, false);
    for (i, (wanted, given)) in wanted.iter().zip(&given).enumerate() {
        let error = distance(given, wanted);
        assert!(error < limit, "{name}: gradient {i} is {error:e} away");
    }
}

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

/// The recurrence, one token after another; one group. Inputs in the order of `check_scan`.
fn recurrence(t: &[Tensor], lengths: &[i64], turns: bool) -> (Tensor, Tensor) {
    let [x, b, c, decay, weight, gamma, skip, initial] = &t[..8] else {
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
                match angle {
                    Some(angle) => turned(&(p + &t[bias]), angle),
                    None => p.expand([heads, -1, -1], false),
                }
            };
            if turns {
                let step = t[11].get(token).unsqueeze(1) * t[10].get(token).unsqueeze(0);
                angle = Some(match angle {
                    Some(angle) => angle + step,
                    None => step,
                });
            }
            let (b, c) = (project(b, 8, &angle), project(c, 9, &angle));
            let x = x.get(token);
            let kept = &h * by_head(decay.get(token).exp());
            let y = c.matmul(&kept.transpose(1, 2))
                + c.matmul(&b.transpose(1, 2)).matmul(&x) * by_head(gamma.get(token))
                + &x * by_head(skip.shallow_clone());
            outputs.push(y);
            h = kept + x.transpose(1, 2).matmul(&b) * by_head(weight.get(token));
        }
        states.push(match angle {
            Some(angle) => turned(&h, &-angle),
            None => h,
        });
        start += length;
    }
    assert_eq!(states[0].size()[1], head_dim);
    (Tensor::stack(&outputs, 0), Tensor::stack(&states, 0))
}

fn check_scan(lengths: &[i64], sizes: [i64; 4], angles: Option<i64>) {
    let [heads, rank, head_dim, state] = sizes;
    let tokens: i64 = lengths.iter().sum();
    let delta = (random(&[tokens, heads]) - 3.5).exp();
    let share = random(&[tokens, heads]).sigmoid();
    let mut leaves = vec![
        pair(&random(&[tokens, heads, rank, head_dim]), Kind::BFloat16),
        pair(&random(&[tokens, rank, 1, state]), Kind::BFloat16),
        pair(&random(&[tokens, rank, 1, state]), Kind::BFloat16),
        pair(&-(&delta * random(&[tokens, heads]).exp()), Kind::Float),
        pair(&(&delta + 0.01), Kind::Float),
        pair(&(&delta * share), Kind::Float),
        pair(&random(&[heads]), Kind::Float),
        pair(
            &random(&[lengths.len() as i64, heads, head_dim, state]),
            Kind::Float,
        ),
    ];
    if let Some(angles) = angles {
        let bias = || random(&[heads, rank, state]) * 0.3 + 1.0;
        leaves.push(pair(&bias(), Kind::Float));
        leaves.push(pair(&bias(), Kind::Float));
        leaves.push(pair(
            &(random(&[tokens, angles]).tanh() * std::f64::consts::PI),
            Kind::Float,
        ));
        leaves.push(pair(&delta, Kind::Float));
    }
    let plain: Vec<Tensor> = leaves
        .iter()
        .map(|(leaf, _)| leaf.shallow_clone())
        .collect();
    let (y, last) = recurrence(&plain, lengths, angles.is_some());
    let [x, b, c, log_decay, weight, gamma, skip, initial] = std::array::from_fn(|i| &leaves[i].1);
    let scan = Scan {
        x,
        b,
        c,
        turn: angles.map(|_| Turn {
            b_bias: &leaves[8].1,
            c_bias: &leaves[9].1,
            theta: &leaves[10].1,
            delta: &leaves[11].1,
        }),
        log_decay,
        weight,
        gamma,
        skip: Some(skip),
        initial: Some(initial),
    };
    let layout = Layout::new(lengths, CUDA);
    let (got, state_after) = scan.run(&layout, true);
    let (again, _) = scan.run(&layout, true);
    assert_eq!(got, again, "the same from run to run");
    let state_after = state_after.expect("asked for");
    let name = format!("scan {lengths:?} {sizes:?} {angles:?}");
    compare(&name, &leaves, &[y, last], &[got, state_after], BF16);
}

#[test]
fn scans_are_the_recurrence() {
    if no_device() {
        return;
    }
    tch::manual_seed(1);
    for lengths in [vec![1], vec![64], vec![0, 65, 3], vec![300, 1, 63]] {
        check_scan(&lengths, [3, 1, 64, 128], None);
        check_scan(&lengths, [2, 1, 32, 64], None);
        check_scan(&lengths, [3, 1, 64, 128], Some(32));
        check_scan(&lengths, [2, 1, 64, 64], Some(32));
    }
    for rank in [2, 4, 8] {
        check_scan(&[33, 1, 20], [2, rank, 64, 128], Some(32));
    }
}

#[test]
fn convolutions_are_the_plain_form() {
    if no_device() {
        return;
    }
    tch::manual_seed(2);
    for (lengths, width) in [(vec![1], 4), (vec![2, 0, 70, 300], 4), (vec![40, 1], 2)] {
        let tokens = lengths.iter().sum();
        let leaves = [
            pair(&random(&[tokens, 24]), Kind::BFloat16),
            pair(&random(&[24, 1, width]), Kind::Float),
            pair(&random(&[24]), Kind::Float),
            pair(&random(&[lengths.len() as i64, width - 1, 24]), Kind::Float),
        ];
        let run = |t: [&Tensor; 4], device| {
            let layout = Layout::new(&lengths, device);
            [
                conv::packed(t[0], t[1], t[2], Some(t[3]), &layout),
                conv::packed_tail(t[0], Some(t[3]), &layout, width),
            ]
        };
        // The tail is a copy in fp32 either way.
        let expected = run(std::array::from_fn(|i| &leaves[i].0), Device::Cpu);
        let got = run(std::array::from_fn(|i| &leaves[i].1), CUDA);
        compare(
            &format!("convolution {lengths:?}"),
            &leaves,
            &expected,
            &got,
            BF16,
        );
    }
}

#[test]
fn norms_gates_and_rotations_are_the_plain_forms() {
    if no_device() {
        return;
    }
    tch::manual_seed(3);
    for width in [8, 256, 776, 2048] {
        let leaves = [
            pair(&random(&[37, width]), Kind::Float),
            pair(&random(&[37, width]), Kind::BFloat16),
            pair(&random(&[width]), Kind::Float),
        ];
        let run = |pick: fn(&(Tensor, Tensor)) -> &Tensor, kind| {
            let [a, b, w] = leaves.each_ref().map(pick);
            let (sum, y) = norm::add_rms_norm(a, Some(b), w, kind);
            [sum, y]
        };
        let (expected, got) = (run(|l| &l.0, Kind::Double), run(|l| &l.1, Kind::BFloat16));
        compare(&format!("add norm {width}"), &leaves, &expected, &got, BF16);

        let leaves = [
            pair(&random(&[37, width]), Kind::BFloat16),
            pair(&random(&[37, width]), Kind::BFloat16),
            pair(&random(&[width]), Kind::Float),
        ];
        let run = |pick: fn(&(Tensor, Tensor)) -> &Tensor| {
            let [y, z, w] = leaves.each_ref().map(pick);
            [norm::gated_rms_norm(y, z, w)]
        };
        let (expected, got) = (run(|l| &l.0), run(|l| &l.1));
        compare(
            &format!("gated norm {width}"),
            &leaves,
            &expected,
            &got,
            BF16,
        );

        let leaves = [pair(&random(&[37, 2 * width]), Kind::BFloat16)];
        let (expected, got) = (
            [swiglu::swiglu_plain(&leaves[0].0)],
            [swiglu::swiglu(&leaves[0].1)],
        );
        compare(&format!("SwiGLU {width}"), &leaves, &expected, &got, BF16);
    }
    let leaves = [pair(&random(&[50, 3, 2, 64]), Kind::BFloat16)];
    let positions = Tensor::arange(50, (Kind::Int64, Device::Cpu));
    let expected = rotary::rotate_joined(&leaves[0].0, &positions, 32);
    let got = rotary::rotate_joined(&leaves[0].1, &positions.to_device(CUDA), 32);
    compare("rotary", &leaves, &expected, &got, BF16);
}
