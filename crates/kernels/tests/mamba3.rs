//! The Mamba-3 operator against its recurrence, one token at a time, in fp64.

use cistron_draws::seeded;
use cistron_kernels::mamba3::{Inputs, Memory, Scan, halves_of_pairs, pairs_of_halves, turn};
use cistron_kernels::{Layout, scan};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Everything that a run takes, all of it requiring gradients: the fields of [`Inputs`] with those
/// of [`Memory`] at the end.
struct Case {
    leaves: Vec<Tensor>,
    lengths: Vec<i64>,
    mimo: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: i64,
    head_dim: i64,
    states: i64,
    groups: i64,
    rank: i64,
    angles: i64,
    by_head: bool,
}

fn case(seed: i64, lengths: &[i64], sizes: Sizes) -> Case {
    let tokens: i64 = lengths.iter().sum();
    let rows = lengths.len() as i64;
    let Sizes {
        heads,
        head_dim,
        states,
        groups,
        rank,
        angles,
        by_head,
    } = sizes;
    let _held = seeded(seed);
    let normal = |shape: &[i64]| Tensor::randn(shape, DOUBLE);
    let delta = (normal(&[tokens, heads]) - 2.0).exp();
    let theta = if by_head {
        normal(&[tokens, heads, angles])
    } else {
        normal(&[tokens, angles])
    };
    let leaves = vec![
        normal(&[tokens, heads, head_dim]),
        normal(&[heads, rank, head_dim]),
        normal(&[tokens, rank, groups, states]),
        normal(&[tokens, rank, groups, states]),
        normal(&[heads, rank, states]),
        normal(&[heads, rank, states]),
        theta.tanh() * std::f64::consts::PI,
        delta.shallow_clone(),
        -(delta * normal(&[tokens, heads]).exp()),
        normal(&[tokens, heads]).sigmoid(),
        normal(&[heads]),
        Tensor::rand([rows, heads, angles], DOUBLE) * std::f64::consts::TAU,
        normal(&[rows, heads, head_dim, states]),
        normal(&[rows, rank, heads, states]),
        normal(&[rows, heads, head_dim]),
    ];
    Case {
        leaves: leaves
            .into_iter()
            .map(|t| {
                t.to_kind(Kind::Float)
                    .to_kind(Kind::Double)
                    .set_requires_grad(true)
            })
            .collect(),
        lengths: lengths.to_vec(),
        mimo: rank > 1,
    }
}

impl Case {
    fn to_kind(&self, kind: Kind) -> Self {
        Self {
            leaves: self
                .leaves
                .iter()
                .map(|t| t.detach().to_kind(kind).copy().set_requires_grad(true))
                .collect(),
            lengths: self.lengths.clone(),
            mimo: self.mimo,
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        let t = &self.leaves;
        Inputs {
            x: &t[0],
            up: self.mimo.then_some(&t[1]),
            b: &t[2],
            c: &t[3],
            b_bias: &t[4],
            c_bias: &t[5],
            theta: &t[6],
            delta: &t[7],
            log_decay: &t[8],
            trap: &t[9],
            weights: None,
            skip: &t[10],
        }
    }

    fn memory(&self) -> Memory {
        let [angle, ssm, k, v] = [11, 12, 13, 14].map(|i| self.leaves[i].shallow_clone());
        Memory { angle, ssm, k, v }
    }

    /// Outputs and the final memory by the operator.
    fn run(&self) -> Vec<Tensor> {
        let layout = Layout::new(&self.lengths, Device::Cpu);
        let (y, last) = self.inputs().run(&layout, Some(&self.memory()), true);
        let Memory { angle, ssm, k, v } = last.expect("asked for");
        vec![y, angle, ssm, k, v]
    }

    /// The same, one token after another.
    fn recur(&self) -> Vec<Tensor> {
        let t = self.inputs();
        let initial = self.memory();
        let heads = t.x.size()[1];
        let each = |values: &Tensor| values.reshape([heads, 1, 1]);
        let ranks = |x: &Tensor| match t.up {
            Some(up) => x.unsqueeze(1) * up,
            None => x.unsqueeze(1),
        };
        let spread = heads / t.b.size()[2];
        let (mut outputs, mut lasts, mut start) = (Vec::new(), Vec::new(), 0);
        for (row, &length) in (0i64..).zip(&self.lengths) {
            let mut angle = initial.angle.get(row);
            let mut ssm = initial.ssm.get(row);
            let mut k = initial.k.get(row).transpose(0, 1);
            let mut v = initial.v.get(row);
            for token in start..start + length {
                let at = |values: &Tensor| values.get(token);
                let (delta, trap) = (at(t.delta), at(t.trap));
                // Not in place: shapes differ.
                let step = delta.unsqueeze(-1) * at(t.theta);
                angle = step + angle;
                let project = |p: &Tensor, bias: &Tensor| {
                    let p = at(p).repeat_interleave_self_int(spread, 1, None);
                    turn(&(p.transpose(0, 1) + bias), &angle.unsqueeze(1))
                };
                let (b, c) = (project(t.b, t.b_bias), project(t.c, t.c_bias));
                let keep = each(&at(t.log_decay).exp());
                let outer = |x: &Tensor, b: &Tensor| ranks(x).transpose(1, 2).matmul(b);
                let x = at(t.x);
                let one = Tensor::ones_like(&trap);
                ssm = &keep * ssm
                    + &keep * each(&((one - &trap) * &delta)) * outer(&v, &k)
                    + each(&(&trap * &delta)) * outer(&x, &b);
                let y = c.matmul(&ssm.transpose(1, 2)) + ranks(&x) * each(t.skip);
                outputs.push(y);
                (k, v) = (b, x);
            }
            let angle = angle.remainder(std::f64::consts::TAU);
            lasts.push([angle, ssm, k.transpose(0, 1), v]);
            start += length;
        }
        let stack = |i: usize| {
            let list: Vec<Tensor> = lasts.iter().map(|last| last[i].shallow_clone()).collect();
            Tensor::stack(&list, 0)
        };
        let y = if outputs.is_empty() {
            self.run().remove(0)
        } else {
            Tensor::stack(&outputs, 0)
        };
        vec![y, stack(0), stack(1), stack(2), stack(3)]
    }

    /// Gradients of all leaves from the outputs weighted at random.
    fn gradients(&self, outputs: &[Tensor]) -> Vec<Tensor> {
        let _held = seeded(99);
        let loss: Tensor = outputs
            .iter()
            .map(|t| (t * Tensor::randn(t.size(), DOUBLE)).sum(Kind::Double))
            .sum();
        loss.backward();
        self.leaves
            .iter()
            .map(|leaf| match leaf.grad() {
                grad if grad.defined() => grad.to_kind(Kind::Double),
                _ => Tensor::zeros(leaf.size(), DOUBLE),
            })
            .collect()
    }
}

/// Norm of the difference over the norm.
fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    ((found - &expected).norm() / (expected.norm() + 1e-30)).double_value(&[])
}

const SIZES: [Sizes; 5] = {
    let base = Sizes {
        heads: 3,
        head_dim: 5,
        states: 8,
        groups: 1,
        rank: 1,
        angles: 2,
        by_head: false,
    };
    [
        base,
        Sizes {
            heads: 4,
            groups: 2,
            rank: 4,
            angles: 4,
            ..base
        },
        Sizes { rank: 3, ..base },
        Sizes { angles: 0, ..base },
        Sizes {
            by_head: true,
            rank: 2,
            ..base
        },
    ]
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Outputs, final memory and every gradient, with ragged and empty sequences.
    #[test]
    fn the_operator_is_the_recurrence(
        seed in 0i64..1000, sizes in prop::sample::select(SIZES.to_vec()),
        lengths in prop::collection::vec(0i64..90, 1..4),
    ) {
        let case = case(seed, &lengths, sizes);
        let expected = case.recur();
        let wanted = case.gradients(&expected);
        let double = case.to_kind(Kind::Double);
        let found = double.run();
        let given = double.gradients(&found);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            prop_assert!(relative(found, expected) < 1e-10, "output {i}");
        }
        for (i, (given, wanted)) in given.iter().zip(&wanted).enumerate() {
            // Biases of sequences that are all empty, and such, have no gradient.
            let scale = wanted.norm().double_value(&[]);
            let error = (given - wanted).norm().double_value(&[]);
            prop_assert!(error < 1e-9 * (scale + 1.0), "gradient {i}: {error} of {scale}");
        }
        let single = case.to_kind(Kind::Float);
        let found = single.run();
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if i == 1 {
                let apart = ((found - expected) * 0.5).sin().norm().double_value(&[]);
                prop_assert!(apart < 1e-4, "angle: {apart}");
            } else {
                prop_assert!(relative(found, expected) < 1e-5, "fp32 output {i}");
            }
        }
    }

    /// The length of a chunk changes rounding alone.
    #[test]
    fn any_chunk_gives_the_same(
        seed in 0i64..1000, sizes in prop::sample::select(SIZES[..4].to_vec()),
        length in 1i64..150, chunk in 1i64..70,
    ) {
        let _guard = tch::no_grad_guard();
        let case = case(seed, &[length, length], sizes);
        let pad = |t: &Tensor| {
            let mut shape = t.size();
            shape.splice(0..1, [2, length]);
            t.reshape(shape)
        };
        let t = case.inputs();
        let scan = Scan {
            x: &pad(&(t.x.unsqueeze(2) * &case.leaves[1])),
            b: &pad(t.b),
            c: &pad(t.c),
            b_bias: t.b_bias,
            c_bias: t.c_bias,
            theta: &pad(t.theta),
            delta: &pad(t.delta),
            log_decay: &pad(t.log_decay),
            weight: &pad(&(t.delta + 0.1)),
            gamma: &pad(&(t.delta * t.trap)),
        };
        let initial = case.memory().ssm;
        let (y, last) = scan.run(Some(&initial));
        let (again, end) = scan.run_by(Some(&initial), chunk);
        prop_assert!(relative(&again, &y) < 1e-11);
        prop_assert!(relative(&end, &last) < 1e-11);
    }

    /// A packed batch is its sequences alone, bit for bit.
    #[test]
    fn packed_is_separate(seed in 0i64..1000, lengths in prop::collection::vec(1i64..80, 1..4)) {
        let _guard = tch::no_grad_guard();
        let case = case(seed, &lengths, SIZES[1]).to_kind(Kind::Double);
        let whole = case.run();
        let mut start = 0;
        for (row, &length) in (0i64..).zip(&lengths) {
            let tokens = [0, 2, 3, 6, 7, 8, 9];
            let leaves = (0..15).map(|i| match i {
                i if tokens.contains(&i) => case.leaves[i].narrow(0, start, length),
                11.. => case.leaves[i].narrow(0, row, 1),
                _ => case.leaves[i].shallow_clone(),
            });
            let alone = Case { leaves: leaves.collect(), lengths: vec![length], mimo: case.mimo }.run();
            prop_assert!(relative(&whole[0].narrow(0, start, length), &alone[0]) < 1e-12);
            for i in 1..5 {
                prop_assert!(relative(&whole[i].narrow(0, row, 1), &alone[i]) < 1e-12);
            }
            start += length;
        }
    }

    /// Without λ, rotation and biases it is the scan of Mamba-2.
    #[test]
    fn it_reduces_to_mamba2(seed in 0i64..1000, length in 1i64..150) {
        let _guard = tch::no_grad_guard();
        let case = case(seed, &[length], SIZES[3]);
        let t = case.inputs();
        let nothing = t.b_bias.zeros_like();
        let inputs = Inputs {
            b_bias: &nothing,
            c_bias: &nothing,
            trap: &t.trap.ones_like(),
            ..t
        };
        let layout = Layout::new(&[length], Device::Cpu);
        let (y, last) = inputs.run(&layout, None, true);
        let one = |t: &Tensor| t.unsqueeze(0);
        let flat = |t: &Tensor| one(&t.squeeze_dim(1).squeeze_dim(1));
        let mamba2 = scan::Scan {
            log_decay: &one(t.log_decay),
            weight: &one(t.delta),
            x: &one(t.x),
            b: &flat(t.b),
            c: &flat(t.c),
        };
        let (expected, state) = mamba2.run(None);
        let expected = expected.squeeze_dim(0) + t.x * t.skip.unsqueeze(-1);
        prop_assert!(relative(&y.squeeze_dim(2), &expected) < 1e-11);
        prop_assert!(relative(&last.expect("asked for").ssm, &state) < 1e-11);
    }

    /// A constant added to the first angle changes nothing where nothing is remembered, and a
    /// memory at an angle is the one at zero, turned.
    #[test]
    fn angles_are_a_frame(seed in 0i64..1000, length in 1i64..100, which in 0usize..3) {
        let _guard = tch::no_grad_guard();
        let case = case(seed, &[length], SIZES[which]);
        let layout = Layout::new(&[length], Device::Cpu);
        let run = |memory: Option<&Memory>| case.inputs().run(&layout, memory, false).0;
        let memory = case.memory();
        let forgotten = Memory {
            angle: memory.angle.shallow_clone(),
            ..memory.map(Tensor::zeros_like)
        };
        prop_assert!(relative(&run(Some(&forgotten)), &run(None)) < 1e-11);
        let back = -&memory.angle;
        let turned = Memory {
            angle: memory.angle.zeros_like(),
            ssm: turn(&memory.ssm, &back.unsqueeze(2)),
            k: turn(&memory.k, &back.unsqueeze(1)),
            v: memory.v.shallow_clone(),
        };
        prop_assert!(relative(&run(Some(&turned)), &run(Some(&memory))) < 1e-11);
    }

    /// What comes later does not change a bit of what came before, at equal shapes.
    #[test]
    fn nothing_leaks_backwards(seed in 0i64..1000, length in 2i64..150, at in 0.0f64..1.0, which in 0usize..3) {
        let _guard = tch::no_grad_guard();
        let case = case(seed, &[length], SIZES[which]).to_kind(Kind::Float);
        let at = 1 + ((length - 2) as f64 * at) as i64;
        let changed = case.to_kind(Kind::Float);
        for (i, leaf) in changed.leaves.iter().enumerate() {
            let mut later = match i {
                0 | 2 | 3 | 6 | 7 | 9 => leaf.narrow(0, at, length - at),
                _ => continue,
            };
            let _ = later.g_mul_scalar_(0.37);
        }
        let (before, after) = (case.run(), changed.run());
        prop_assert_eq!(before[0].narrow(0, 0, at), after[0].narrow(0, 0, at));
        prop_assert!(relative(&after[0].narrow(0, at, 1), &before[0].narrow(0, at, 1)) > 0.0);
    }
}

#[test]
fn the_two_ways_of_pairing_are_inverse() {
    let x = Tensor::arange(6, (Kind::Int64, Device::Cpu));
    let pairs = pairs_of_halves(&x);
    let list: Vec<i64> = Vec::try_from(&pairs).expect("six numbers");
    assert_eq!(list, [0, 3, 1, 4, 2, 5]);
    assert_eq!(halves_of_pairs(&pairs), x);
}
