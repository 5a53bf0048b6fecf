//! The Mamba-2 block of the CPU against the plain operators.

use cistron_draws::seeded;
use cistron_kernels::mamba2::{Before, Block};
use cistron_kernels::norm::gated_rms_norm;
use cistron_kernels::scan::Scan;
use cistron_kernels::{Layout, conv, linear};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 24;

#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: i64,
    head_dim: i64,
    states: i64,
    taps: i64,
}

/// Sizes of the bundled model.
const BUNDLED: Sizes = Sizes {
    heads: 6,
    head_dim: 64,
    states: 64,
    taps: 4,
};

/// Weights, inputs and what came before them.
struct Case {
    in_proj: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    d: Tensor,
    norm: Tensor,
    out_proj: Tensor,
    x: Tensor,
    tail: Tensor,
    state: Tensor,
    sizes: Sizes,
    lengths: Vec<i64>,
}

/// Output, convolution's tail and state.
type Found = [Tensor; 3];

impl Case {
    fn new(seed: i64, lengths: &[i64], sizes: Sizes) -> Self {
        let Sizes {
            heads,
            head_dim,
            states,
            taps,
        } = sizes;
        let (tokens, rows) = (lengths.iter().sum::<i64>(), lengths.len() as i64);
        let (inner, channels) = (heads * head_dim, heads * head_dim + 2 * states);
        let _held = seeded(seed);
        let normal =
            |shape: &[i64], scale: f64| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
        Self {
            in_proj: normal(&[inner + channels + heads, WIDTH], 0.2),
            conv_weight: normal(&[channels, 1, taps], 0.6),
            conv_bias: normal(&[channels], 0.3),
            dt_bias: normal(&[heads], 1.0) - 2.0,
            a_log: normal(&[heads], 1.0),
            d: normal(&[heads], 1.0),
            norm: normal(&[inner], 0.3) + 1.0,
            out_proj: normal(&[WIDTH, inner], 0.2),
            x: normal(&[tokens, WIDTH], 1.0),
            tail: normal(&[rows, taps - 1, channels], 1.0),
            state: normal(&[rows, heads, head_dim, states], 1.0),
            sizes,
            lengths: lengths.to_vec(),
        }
    }

    fn block(&self) -> Block<'_> {
        Block {
            conv_weight: &self.conv_weight,
            conv_bias: &self.conv_bias,
            dt_bias: &self.dt_bias,
            a_log: &self.a_log,
            d: &self.d,
            norm: &self.norm,
            out_proj: &self.out_proj,
            head_dim: self.sizes.head_dim,
            states: self.sizes.states,
        }
    }

    fn before(&self) -> Before<'_> {
        Before {
            tail: &self.tail,
            state: &self.state,
        }
    }

    fn fused(&self, before: Option<Before<'_>>) -> Found {
        let _guard = tch::no_grad_guard();
        let layout = Layout::new(&self.lengths, Device::Cpu);
        let block = self.block();
        assert!(block.supported_on_cpu(&self.x, &self.in_proj));
        let (y, after) = block.run_on_cpu(&self.x, &self.in_proj, &layout, before, true);
        let (tail, state) = after.expect("it was to be kept");
        [y, tail, state]
    }

    fn plain(&self, before: Option<Before<'_>>, kind: Kind) -> Found {
        self.plain_of(&self.x, before, kind)
    }

    fn plain_of(&self, x: &Tensor, before: Option<Before<'_>>, kind: Kind) -> Found {
        let layout = Layout::new(&self.lengths, Device::Cpu);
        let of = |t: &Tensor| t.to_kind(kind);
        let Sizes {
            heads,
            head_dim,
            states,
            taps,
        } = self.sizes;
        let inner = heads * head_dim;
        let widths = [inner, inner + 2 * states, heads];
        let projected = linear(&of(x), &self.in_proj);
        let parts = projected.split_with_sizes(widths.as_slice(), -1);
        let tail = before.map(|before| of(before.tail));
        let (mixed, extended) = conv::causal_conv1d_silu(
            &layout.pad(&parts[1]),
            &of(&self.conv_weight),
            &of(&self.conv_bias),
            tail.as_ref(),
        );
        let valid = of(layout.valid()).unsqueeze(-1);
        let delta = (layout.pad(&parts[2]) + of(&self.dt_bias)).softplus() * valid;
        let widths = [inner, states, states];
        let split = mixed.split_with_sizes(widths.as_slice(), -1);
        let scan = Scan {
            log_decay: &-(&delta * of(&self.a_log).exp()),
            weight: &delta,
            x: &split[0].reshape([layout.sequences(), layout.max(), heads, head_dim]),
            b: &split[1],
            c: &split[2],
        };
        let state = before.map(|before| of(before.state));
        let (y, last) = scan.run(state.as_ref());
        let y = layout.unpad(&(y + scan.x * of(&self.d).unsqueeze(-1)));
        let normed = gated_rms_norm(&y.reshape([-1, inner]), &parts[0], &of(&self.norm));
        let out = linear(&normed, &self.out_proj);
        [out, conv::tail(&extended, &layout, taps), last]
    }

    /// How far off output, tail and state may be. A norm over few values that are nearly zero
    /// magnifies every rounding before it: an output may then be as far off as twice the plain
    /// block's in fp32. One input rounds by luck: of some that hardly differ the worst counts.
    fn bounds(&self, before: Option<Before<'_>>) -> [f64; 3] {
        let off = |step: i32| {
            let x = &self.x * (1.0 + f64::from(step) * 1e-6);
            let exact = self.plain_of(&x, before, Kind::Double);
            error(&self.plain_of(&x, before, Kind::Float)[0], &exact[0])
        };
        let worst = (0..8).map(off).fold(0.0, f64::max);
        [1e-5f64.max(2.0 * worst), 1e-5, 1e-5]
    }

    /// Some of the tokens of the only sequence, after what came before.
    fn piece(&self, start: i64, length: i64, before: &[Tensor; 2]) -> Self {
        let clone = Tensor::shallow_clone;
        Self {
            in_proj: clone(&self.in_proj),
            conv_weight: clone(&self.conv_weight),
            conv_bias: clone(&self.conv_bias),
            dt_bias: clone(&self.dt_bias),
            a_log: clone(&self.a_log),
            d: clone(&self.d),
            norm: clone(&self.norm),
            out_proj: clone(&self.out_proj),
            x: self.x.narrow(0, start, length),
            tail: clone(&before[0]),
            state: clone(&before[1]),
            sizes: self.sizes,
            lengths: vec![length],
        }
    }
}

/// The greatest error, relative to the greatest value.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    if found.numel() == 0 {
        return 0.0;
    }
    let expected = expected.to_kind(Kind::Double);
    let greatest = |t: Tensor| t.abs().max().double_value(&[]);
    let distance = greatest(found.to_kind(Kind::Double) - &expected);
    distance / greatest(expected).max(1e-3)
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1i64..5, 1i64..40, 1i64..40, 1i64..6).prop_map(|(heads, head_dim, states, taps)| Sizes {
        heads,
        head_dim,
        states,
        taps,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_the_plain_block(
        seed in 0i64..1000, sizes in sizes(), on: bool,
        lengths in prop::collection::vec(0i64..150, 1..5),
    ) {
        prop_assume!(lengths.iter().sum::<i64>() > 0);
        let case = Case::new(seed, &lengths, sizes);
        let before = on.then(|| case.before());
        let expected = case.plain(before, Kind::Double);
        let bounds = case.bounds(before);
        for ((found, bound), expected) in case.fused(before).iter().zip(bounds).zip(&expected) {
            prop_assert!(error(found, expected) < bound, "{} {bound}", error(found, expected));
        }
    }

    #[test]
    fn packed_sequences_are_those_alone_bit_for_bit(
        seed in 0i64..1000, sizes in sizes(), lengths in prop::collection::vec(0i64..100, 1..5),
    ) {
        let case = Case::new(seed, &lengths, sizes);
        let [y, tail, state] = case.fused(Some(case.before()));
        let mut start = 0;
        for (row, &length) in (0i64..).zip(&lengths) {
            let of = |t: &Tensor| t.narrow(0, row, 1);
            let alone = case.piece(start, length, &[of(&case.tail), of(&case.state)]);
            let found = alone.fused(Some(alone.before()));
            prop_assert_eq!(&found, &[y.narrow(0, start, length), of(&tail), of(&state)]);
            start += length;
        }
    }

    #[test]
    fn splitting_with_the_state_changes_nothing(
        seed in 0i64..1000, sizes in sizes(), cut in 0i64..151,
    ) {
        let case = Case::new(seed, &[150], sizes);
        let [y, tail, state] = case.fused(Some(case.before()));
        let none = [case.tail.shallow_clone(), case.state.shallow_clone()];
        let left = case.piece(0, cut, &none);
        let [first, between @ ..] = left.fused(Some(left.before()));
        let right = case.piece(cut, 150 - cut, &between);
        let [second, found_tail, found_state] = right.fused(Some(right.before()));
        let bounds = case.bounds(Some(case.before()));
        prop_assert!(error(&Tensor::cat(&[first, second], 0), &y) < bounds[0]);
        prop_assert_eq!(found_tail, tail);
        prop_assert!(error(&found_state, &state) < bounds[2]);
    }
}

/// Against fp64, errors are at most twice those of the plain operators in fp32.
#[test]
fn it_is_as_exact_as_the_plain_block() {
    let mut worst = [[0f64; 3]; 2];
    for seed in 0..4 {
        let case = Case::new(seed, &[700, 1, 64, 129], BUNDLED);
        let before = (seed % 2 == 0).then(|| case.before());
        let exact = case.plain(before, Kind::Double);
        for (worst, found) in worst
            .iter_mut()
            .zip([case.fused(before), case.plain(before, Kind::Float)])
        {
            for ((worst, found), exact) in worst.iter_mut().zip(&found).zip(&exact) {
                *worst = worst.max(error(found, exact));
            }
        }
    }
    let [fused, plain] = worst;
    for (fused, plain) in fused.iter().zip(plain) {
        assert!(*fused <= 2.0 * plain, "{worst:?}");
    }
}

#[test]
fn threads_change_nothing() {
    let case = Case::new(3, &[100, 0, 70, 33, 1], BUNDLED);
    let threads = tch::get_num_threads();
    let found = [1, 3].map(|threads| {
        tch::set_num_threads(threads);
        case.fused(Some(case.before()))
    });
    tch::set_num_threads(threads);
    assert_eq!(found[0], found[1]);
}

/// Where a gradient is wanted, and in other kinds, the plain operators run.
#[test]
fn gradients_are_left_to_the_plain_block() {
    let case = Case::new(4, &[5], BUNDLED);
    let supported = |case: &Case| case.block().supported_on_cpu(&case.x, &case.in_proj);
    assert!(supported(&case));
    let wanted = case.piece(
        0,
        5,
        &[case.tail.shallow_clone(), case.state.shallow_clone()],
    );
    let wanted = Case {
        d: wanted.d.copy().set_requires_grad(true),
        ..wanted
    };
    assert!(!supported(&wanted));
    assert!(tch::no_grad(|| supported(&wanted)));
    let double = Case {
        x: case.x.to_kind(Kind::Double),
        ..case
    };
    assert!(!supported(&double));
}
