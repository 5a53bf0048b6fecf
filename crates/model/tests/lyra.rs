//! Lyra: golden vectors, size, forms, sharing of windows, padding, gradients.

use std::path::Path;

use cistron_draws::seeded;
use cistron_model::lyra::{Form, Lyra, LyraConfig, Pooling, parity};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / (b.norm() + 1e-12)).double_value(&[])
}

fn network(change: impl FnOnce(&mut LyraConfig)) -> Lyra {
    let mut config = LyraConfig {
        d_model: 16,
        d_state: 8,
        ..LyraConfig::default()
    };
    change(&mut config);
    Lyra::new(&config, 5, Device::Cpu).expect("a valid configuration")
}

fn letters(rows: i64, length: i64, seed: i64) -> Tensor {
    let _held = seeded(seed);
    Tensor::randint(20, [rows, length], (Kind::Int64, Device::Cpu))
}

/// Which letters stay, about `share` of them.
fn kept(rows: i64, length: i64, share: f64, seed: i64) -> Tensor {
    let _held = seeded(seed);
    Tensor::rand([rows, length], (Kind::Float, Device::Cpu)).lt(share)
}

fn one_hot(letters: &Tensor) -> Tensor {
    letters.one_hot(21).narrow(-1, 0, 20).to_kind(Kind::Float)
}

#[test]
fn golden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/lyra.safetensors");
    let parity = parity::check(&path, Device::Cpu).expect("a golden file");
    println!("{parity:?}");
    assert_eq!(parity.parameters, 47_169);
    assert!(parity.holds(), "{parity:?}");
}

#[test]
fn the_published_size() {
    let lyra = Lyra::new(&LyraConfig::default(), 1, Device::Cpu).expect("valid");
    assert_eq!(lyra.params().count(), 47_169);
}

#[test]
fn initial_values_are_as_specified() {
    let lyra = Lyra::new(&LyraConfig::default(), 3, Device::Cpu).expect("valid");
    for (name, tensor, _) in lyra.params().iter() {
        let (low, high) = (
            tensor.min().double_value(&[]),
            tensor.max().double_value(&[]),
        );
        let std = tensor.std(false).double_value(&[]);
        match name.strip_prefix("s4d.") {
            Some("kernel.log_dt") => {
                assert!(low >= 1e-3f64.ln() - 1e-6 && high <= 0.1f64.ln() + 1e-6);
                assert!(high - low > 3.0, "log-uniform over two decades");
            }
            Some("kernel.log_A_real") => assert!((low - 0.5f64.ln()).abs() < 1e-6 && low == high),
            Some("kernel.A_imag") => {
                assert_eq!(low, 0.0);
                assert!((high - 31.0 * std::f64::consts::PI).abs() < 1e-4);
            }
            Some("kernel.C") => assert!((std - 0.5f64.sqrt()).abs() < 0.05, "{std}"),
            Some("D") => assert!((std - 1.0).abs() < 0.4, "{std}"),
            _ if name.ends_with("norm.weight") => assert!(low == 1.0 && high == 1.0),
            _ => assert!(low < 0.0 && high > 0.0 || name == "decoder.bias", "{name}"),
        }
    }
}

/// Gradients of `value` agree with finite differences along them.
fn slopes(lyra: &Lyra, value: impl Fn() -> Tensor) {
    value().backward();
    for (name, tensor, _) in lyra.params().iter() {
        let gradient = tensor.grad();
        let norm = gradient.norm().double_value(&[]);
        if norm < 1e-3 {
            continue;
        }
        let along = &gradient / norm;
        let step = 1e-2;
        let at = |distance: f64| {
            tch::no_grad(|| {
                let mut moved = tensor.shallow_clone();
                let _ = moved.g_add_(&(&along * distance));
                let value = value().double_value(&[]);
                let _ = moved.g_sub_(&(&along * distance));
                value
            })
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        let error = (slope - norm).abs() / norm;
        assert!(error < 0.03, "{name}: slope {slope}, gradient {norm}");
    }
}

/// Every pooling, direction and depth gives gradients that finite differences agree with.
#[test]
fn gradients_are_slopes() {
    for (bidirectional, causal, depth) in [(false, false, 1), (true, false, 2), (false, true, 1)] {
        let lyra = network(|config| {
            (config.bidirectional, config.causal, config.depth) = (bidirectional, causal, depth);
        });
        let x = one_hot(&letters(2, 9, 1));
        let value = || {
            lyra.forward_by(&x, None, None, Form::Direct)
                .sum(Kind::Double)
        };
        slopes(&lyra, value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Letters, with windows shared or not, and one-hot vectors are the same input.
    #[test]
    fn letters_are_one_hot(rows in 1i64..40, length in 1i64..70, causal: bool, seed in 0i64..99) {
        let lyra = network(|config| config.causal = causal);
        let base = letters(1, length, seed);
        // Few substitutions, so that most windows are shared.
        let changes = letters(rows, length, seed + 1);
        let keep = kept(rows, length, 0.97, seed + 2);
        let x = base.expand([rows, length], false).where_self(&keep, &changes);
        let expected = lyra.forward(&one_hot(&x), None, None);
        prop_assert!(relative(&lyra.letters(&x, None, None), &expected) < 1e-5);
    }

    /// What fills up a batch on the right changes nothing.
    #[test]
    fn padding_changes_nothing(length in 1i64..30, more in 1i64..20, seed in 0i64..99) {
        let lyra = network(|_| ());
        let x = letters(1, length, seed);
        let alone = lyra.letters(&x, None, None);
        let padded = x.pad([0, more], "constant", 20.0);
        let other = letters(1, length + more, seed + 1);
        let both = lyra.letters(&Tensor::cat(&[&padded, &other], 0), None, None);
        prop_assert!(relative(&both.narrow(0, 0, 1), &alone) < 1e-5);
        let mask = padded.ne(20);
        let dense = lyra.forward(&one_hot(&padded), Some(&mask), None);
        prop_assert!(relative(&dense, &alone) < 1e-5);
    }

    /// A causal network does not see what comes later.
    #[test]
    fn causal_networks_do_not_look_ahead(length in 2i64..30, at in 1i64..29, seed in 0i64..99) {
        let at = at.min(length - 1);
        let lyra = network(|config| (config.causal, config.pooling) = (true, Pooling::None));
        let x = letters(1, length, seed);
        let other = Tensor::cat(&[x.narrow(1, 0, at), letters(1, length - at, seed + 1)], 1);
        let (a, b) = (lyra.letters(&x, None, None), lyra.letters(&other, None, None));
        prop_assert!(relative(&a.narrow(1, 0, at), &b.narrow(1, 0, at)) < 1e-5);
    }
}

/// Without products an effect is a sum over positions: no pair has an effect of its own.
#[test]
fn without_products_landscapes_are_additive() {
    let epsilon = |nonlinear: bool| {
        let lyra = network(|config| config.nonlinear = nonlinear);
        let wild_type = letters(1, 24, 2);
        let mutant = |sites: &[i64]| {
            let x = wild_type.copy();
            for &site in sites {
                let other = (wild_type.int64_value(&[0, site]) + 7) % 20;
                let _ = x.narrow(1, site, 1).fill_(other);
            }
            lyra.letters(&x, None, None).double_value(&[0, 0])
        };
        let single = (mutant(&[5]) - mutant(&[])).abs();
        let pair = mutant(&[5, 6]) - mutant(&[5]) - mutant(&[6]) + mutant(&[]);
        (pair.abs(), single)
    };
    let (pair, single) = epsilon(false);
    assert!(pair < 1e-5 * single.max(1.0), "{pair} beside {single}");
    let (pair, single) = epsilon(true);
    assert!(pair > 1e-3 * single, "{pair} beside {single}");
}

#[test]
fn the_wild_type_has_no_difference_to_itself() {
    let lyra = network(|config| (config.pooling, config.length) = (Pooling::Position, Some(12)));
    let wild_type = letters(1, 12, 3);
    let y = lyra.letters(&wild_type, Some(&wild_type), None);
    let bias = lyra
        .params()
        .iter()
        .find(|(name, ..)| *name == "decoder.bias");
    assert_eq!(
        y.double_value(&[0, 0]),
        bias.expect("a bias").1.double_value(&[0])
    );
}

/// Position pooling too is the same with windows shared (many rows) and not (one row).
#[test]
fn position_pooling_does_not_depend_on_batch_mates() {
    let lyra = network(|config| {
        (config.pooling, config.length) = (Pooling::Position, Some(12));
        (config.readout, config.curve, config.sites) = (8, true, true);
    });
    let wild_type = letters(1, 12, 3);
    let keep = kept(90, 12, 0.95, 5);
    let x = wild_type.where_self(&keep, &letters(90, 12, 4));
    let all = lyra.letters(&x, Some(&wild_type), None);
    for row in [0, 17, 89] {
        let alone = lyra.letters(&x.narrow(0, row, 1), Some(&wild_type), None);
        let error = (alone - all.narrow(0, row, 1))
            .abs()
            .max()
            .double_value(&[]);
        assert!(error < 1e-5, "{error}");
    }
}

fn members(change: impl FnOnce(&mut LyraConfig)) -> Lyra {
    network(|config| {
        (config.pooling, config.length) = (Pooling::Position, Some(4));
        (config.sites, config.curve) = (true, true);
        (config.depth, config.expansions) = (0, Vec::new());
        change(config);
    })
}

/// Members start apart, each row is alone, and the mean of their values is what is predicted.
#[test]
fn members_share_weights_and_not_outputs() {
    let lyra = members(|config| (config.members, config.ranks) = (3, true));
    let x = letters(50, 4, 6);
    let all = lyra.members(&x, None).expect("members");
    assert_eq!(all.size(), [3, 50, 2]);
    let values = all.narrow(-1, 0, 1);
    let mean = all.mean_dim([0i64].as_slice(), false, Kind::Float);
    let predicted = mean.narrow(1, 0, 1) + mean.narrow(1, 1, 1) * 0.02;
    assert!(relative(&lyra.letters(&x, None, None), &predicted) < 1e-6);
    for k in [1, 2] {
        assert!(relative(&values.get(0), &values.get(k)) > 0.1);
    }
    let alone = lyra.members(&x.narrow(0, 7, 1), None).expect("members");
    assert!(relative(&alone, &all.narrow(1, 7, 1)) < 1e-5);
    // Of one more member there are signs, factors, biases and an output, and no other matrix.
    let more = members(|config| (config.members, config.ranks) = (4, true));
    let factors = (4 * 16 + 2 * 16) + 2 * ((16 + 2 * 64) + (32 + 2 * 16)) + 2 * (16 + 1);
    assert_eq!(more.params().count() - lyra.params().count(), factors);
}

#[test]
fn gradients_of_members_are_slopes() {
    let lyra = members(|config| (config.members, config.ranks) = (2, true));
    let x = letters(6, 4, 7);
    let members = || lyra.members(&x, None).expect("members");
    slopes(&lyra, || members().sum(Kind::Double));
}

#[test]
fn wrong_shapes_are_refused() {
    let refused = |change: fn(&mut LyraConfig), key: &str| {
        let mut config = LyraConfig::default();
        change(&mut config);
        let error = Lyra::new(&config, 1, Device::Cpu)
            .expect_err(key)
            .to_string();
        assert!(error.contains(key), "{error}");
    };
    refused(|config| config.d_state = 7, "d_state");
    refused(|config| config.kernel_size = 4, "kernel_size");
    refused(|config| config.dropout = 1.0, "dropout");
    refused(|config| config.d_input = 0, "d_input");
    refused(|config| config.pooling = Pooling::Position, "length");
    refused(|config| config.sites = true, "sites");
    refused(|config| config.readout = -1, "readout");
    refused(|config| config.members = 4, "members");
    refused(|config| config.ranks = true, "ranks");
    refused(
        |config| (config.causal, config.bidirectional) = (true, true),
        "bidirectional",
    );
}
