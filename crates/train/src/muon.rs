//! Muon: momentum whose matrices are made orthogonal before they are added (Jordan et al. 2024),
//! with the scale at which AdamW's rates and weight decay serve it too (Liu et al. 2025,
//! arXiv 2502.16982, section 2.2).

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

/// Decay of the momentum.
const BETA: f64 = 0.95;
/// Root mean square of an update over the rate, about that of AdamW's updates.
const SCALE: f64 = 0.2;
/// Iterations of [`orthogonal`].
const ITERATIONS: usize = 5;
/// Coefficients of the quintic whose iteration takes singular values near 1 from below.
const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// Ends of the names of the matrices that take these steps: the products of the blocks.
const PRODUCTS: [&str; 5] = [
    ".in_proj.weight",
    ".out_proj.weight",
    ".Wqkv.weight",
    ".fc1.weight",
    ".fc2.weight",
];

/// Whether the parameter of this name takes Muon's steps; all others take AdamW's.
pub fn applies(name: &str) -> bool {
    PRODUCTS.iter().any(|end| name.ends_with(end))
}

/// One matrix.
#[derive(Debug)]
pub struct Member<'a> {
    /// The parameter: fp32 `[rows, columns]`.
    pub value: &'a Tensor,
    /// Its gradient.
    pub gradient: Tensor,
    /// Its momentum.
    pub momentum: &'a Tensor,
    /// Learning rate.
    pub rate: f64,
    /// Weight decay, multiplied by the rate.
    pub decay: f64,
}

/// Takes one step for all members in place; matrices of one shape go together.
pub fn step(members: Vec<Member<'_>>) {
    let mut shapes: BTreeMap<Vec<i64>, Vec<Member<'_>>> = BTreeMap::new();
    for member in members {
        shapes.entry(member.value.size()).or_default().push(member);
    }
    tch::no_grad(|| {
        for (shape, members) in shapes {
            let ahead: Vec<Tensor> = members
                .iter()
                .map(|member| {
                    let mut momentum = member.momentum.shallow_clone();
                    let _ = momentum.g_mul_scalar_(BETA);
                    let _ = momentum.g_add_(&member.gradient);
                    // Nesterov's: the momentum as it will be, had the gradient stayed.
                    &member.gradient + momentum * BETA
                })
                .collect();
            let updates = orthogonal(&Tensor::stack(&ahead, 0));
            let longest = shape.iter().copied().max().unwrap_or(1);
            for (i, member) in (0..).zip(&members) {
                let mut value = member.value.shallow_clone();
                if member.decay > 0.0 {
                    let _ = value.g_mul_scalar_(1.0 - member.rate * member.decay);
                }
                let length = member.rate * SCALE * (longest as f64).sqrt();
                let _ = value.g_sub_(&(updates.get(i).to_kind(Kind::Float) * length));
            }
        }
    });
}

/// The nearest orthogonal matrices, roughly (singular values within about 0.7 to 1.2), by a
/// Newton-Schulz iteration: `[matrices, rows, columns]` to the same.
fn orthogonal(matrices: &Tensor) -> Tensor {
    let tall = matrices.size()[1] > matrices.size()[2];
    let wide = match tall {
        true => matrices.transpose(1, 2),
        false => matrices.shallow_clone(),
    };
    let norm = wide
        .square()
        .sum_dim_intlist([1i64, 2].as_slice(), true, Kind::Float)
        .sqrt();
    let kind = match matrices.device().is_cuda() {
        true => Kind::BFloat16,
        false => Kind::Float,
    };
    let mut x = (wide / (norm + 1e-7)).to_kind(kind);
    let (a, b, c) = QUINTIC;
    for _ in 0..ITERATIONS {
        let square = x.matmul(&x.transpose(1, 2));
        let polynomial = &square * b + square.matmul(&square) * c;
        x = &x * a + polynomial.matmul(&x);
    }
    match tall {
        true => x.transpose(1, 2),
        false => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use tch::Device;

    #[test]
    fn singular_values_come_near_one() {
        let _held = seeded(1);
        for shape in [[3, 24, 60], [2, 60, 24], [1, 32, 32]] {
            let matrices = Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.01;
            let (_, values, _) = orthogonal(&matrices).svd(true, true);
            let (low, high) = (
                values.min().double_value(&[]),
                values.max().double_value(&[]),
            );
            assert!(low > 0.3 && high < 1.3, "{shape:?}: {low} {high}");
        }
    }

    #[test]
    fn a_step_has_the_stated_length_and_decays() {
        let _held = seeded(2);
        let options = (Kind::Float, Device::Cpu);
        let value = Tensor::randn([40, 30], options);
        let before = value.copy();
        let momentum = Tensor::zeros([40, 30], options);
        let gradient = Tensor::randn([40, 30], options);
        step(vec![Member {
            value: &value,
            gradient: gradient.copy(),
            momentum: &momentum,
            rate: 0.1,
            decay: 0.5,
        }]);
        let update = &value - &before * (1.0 - 0.1 * 0.5);
        let rms = update.square().mean(Kind::Float).sqrt().double_value(&[]);
        assert!((rms / 0.1 - SCALE).abs() < 0.06, "{rms}");
        let along = (&update * &gradient).sum(Kind::Float).double_value(&[]);
        assert!(along < 0.0, "it goes down: {along}");
        assert_eq!(momentum, gradient);
    }

    #[test]
    fn products_alone_take_these_steps() {
        assert!(applies("backbone.encoder.layers.0.mixer.in_proj.weight"));
        for name in [
            "lm_head.weight",
            "backbone.routing_module.q_proj_layer.weight",
        ] {
            assert!(!applies(name), "{name}");
        }
    }
}
