//! What the parts of a head can and cannot learn, on landscapes that are known.

use std::sync::atomic::AtomicBool;

use cistron_heads::baseline::Baseline;
use cistron_heads::dataset::{Columns, Dataset, Task};
use cistron_heads::epistasis::{Genotype, interaction, subsets};
use cistron_heads::folder::{self, Head};
use cistron_heads::folds::{Folds, Plan};
use cistron_heads::run::{self, Options, Outcome, Pool};
use cistron_heads::scale::Transform;
use cistron_heads::trainer::Training;
use cistron_heads::view::Margin;
use cistron_model::lyra::LyraConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

/// Sequences of `length` letters A, where each of `sites` may have another letter of its own, with
/// the value that `f` gives to what has changed. Of `rows` that are drawn, equal ones are one row.
fn table(
    length: usize,
    sites: &[(usize, u8)],
    rows: usize,
    f: fn(&dyn Fn(usize) -> f64) -> f64,
) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut text = "s,y\n".to_owned();
    for _ in 0..rows {
        let mut sequence = vec![b'A'; length];
        for &(site, letter) in sites {
            if rng.gen_bool(0.5) {
                sequence[site] = letter;
            }
        }
        let changed = |site: usize| f64::from(u8::from(sequence[site] != b'A'));
        let value = f(&changed) + 1e-6 * rng.gen_range(0.0..1.0);
        text += &format!("{},{value}\n", String::from_utf8_lossy(&sequence));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).expect("a table");
    let columns = Columns {
        sequence: Some("s".into()),
        targets: vec!["y".into()],
        wild_type: Some("A".repeat(length)),
        molecule: Some(cistron_heads::alphabet::Molecule::Protein),
        ..Columns::default()
    };
    Dataset::read(&path, &columns, Task::Regression).expect("a good table")
}

fn options(pool: Pool, change: impl FnOnce(&mut LyraConfig)) -> Options {
    let mut lyra = LyraConfig {
        d_model: 32,
        d_state: 32,
        dropout: 0.0,
        ..LyraConfig::default()
    };
    change(&mut lyra);
    Options {
        task: Task::Regression,
        lyra,
        pool,
        dropout: None,
        training: Training {
            epochs: 40,
            batch: 32,
            rate: 4e-3,
            decay: 0.0,
            patience: 40,
            ..Training::default()
        },
        ensemble: 1,
        plan: Plan {
            folds: Folds::Random,
            count: 5,
            test: vec![0],
            order: 2,
            validation: 0.1,
            seed: 1,
        },
        test: true,
        transform: Transform::None,
        baselines: vec![Baseline::AdditiveRidge],
        margin: Margin::All,
        threads: 2,
        device: Device::Cpu,
        command: String::new(),
        tool_version: String::new(),
    }
}

fn train(data: &Dataset, options: &Options) -> Outcome {
    run::run(data, options, None, &AtomicBool::new(false), &|_| ()).expect("a run")
}

/// What a trained head says of genotypes.
fn predict(outcome: &Outcome, data: &Dataset, genotypes: &[Genotype]) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut description = outcome.description.clone();
    let members: Vec<Vec<_>> = outcome.members.iter().map(|m| m.iter().collect()).collect();
    folder::save(folder.path(), &mut description, &members).expect("a saved head");
    let head = Head::load(folder.path(), Device::Cpu).expect("a head");
    let wild_type = data.wild_type.as_ref().expect("a wild type");
    let sequences: Vec<Vec<u8>> = genotypes
        .iter()
        .map(|genotype| {
            let mut sequence = wild_type.clone();
            genotype
                .iter()
                .for_each(|&(site, letter)| sequence[site] = letter);
            sequence
        })
        .collect();
    let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
    let predicted = head
        .predict(&rows, Device::Cpu, false)
        .expect("predictions");
    predicted.iter().map(|p| p.values[0]).collect()
}

fn eps(outcome: &Outcome, data: &Dataset, sites: &[(usize, u8)]) -> f64 {
    let encode =
        |&(site, letter): &(usize, u8)| (site, data.alphabet.encode(letter).expect("a letter"));
    let set: Genotype = sites.iter().map(encode).collect();
    interaction(&predict(outcome, data, &subsets(&set)))
}

/// Linear networks add up: they fit what is additive as ridge regression does, and nothing else. The
/// letters are the same at all sites, so that only the state space can tell sites apart, by how much
/// of its kernel is left to their right.
#[test]
fn without_products_only_sums_are_fitted() {
    let sites: Vec<(usize, u8)> = (2..12).map(|site| (site, b'C')).collect();
    let data = table(16, &sites, 600, |c| {
        c(2) - 2.0 * c(3) + 3.0 * c(8) - 1.5 * c(10) + 4.0 * c(5) * c(11)
    });
    let trained = |depth: i64| {
        let linear = |lyra: &mut LyraConfig| (lyra.nonlinear, lyra.depth) = (false, depth);
        train(&data, &options(Pool::Mean, linear))
    };
    let with = trained(1);
    for pair in [[0, 1], [3, 9], [6, 8]] {
        let eps = eps(&with, &data, &pair.map(|i| sites[i]));
        assert!(eps.abs() < 1e-3, "{pair:?}: {eps}");
    }
    let fold = &with.report.folds[0];
    let (head, ridge) = (
        fold.head.r2.expect("R2"),
        fold.baselines[0].test.r2.expect("R2"),
    );
    assert!(ridge > 0.7, "{ridge}");
    assert!((head - ridge).abs() < 0.05, "{head} beside {ridge}");
    let blind = trained(0).report.folds[0].head.r2.expect("R2");
    assert!(blind < ridge - 0.3, "{blind} without places, {ridge} with");
}

/// A pair 40 letters apart, among others that add up: the state space brings it together. Gated
/// convolutions see five letters, and means of what they see add up.
#[test]
fn distant_pairs_need_a_state_space() {
    let places = [3, 8, 12, 17, 22, 26, 30, 36, 40, 43];
    let sites: Vec<(usize, u8)> = places.into_iter().zip(*b"CDEFGHIKLM").collect();
    let data = table(48, &sites, 640, |c| {
        0.3 * (c(12) + c(22) - c(30) - c(36)) + 0.2 * (c(8) - c(26)) + 4.0 * c(3) * c(43)
    });
    let eps_of = |depth: i64| {
        let outcome = train(&data, &options(Pool::Mean, |lyra| lyra.depth = depth));
        eps(&outcome, &data, &[sites[0], sites[9]])
    };
    let (with, without) = (eps_of(1), eps_of(0));
    assert!((with - 4.0).abs() < 0.4, "planted 4, found {with}");
    assert!(without.abs() < 1e-3, "out of reach, found {without}");
}

#[test]
fn a_planted_triple_is_recovered() {
    let sites: Vec<(usize, u8)> = (0..9).map(|i| (i, b"CDEFGHIKL"[i])).collect();
    let planted = |c: &dyn Fn(usize) -> f64| {
        let sum: f64 = (0..9).map(|i| (i as f64 - 4.0) * 0.2 * c(i)).sum();
        sum + 3.0 * c(1) * c(4) * c(7)
    };
    let data = table(9, &sites, 1_200, planted);
    let mut options = options(Pool::Position, |lyra| lyra.properties = false);
    options.training.epochs = 80;
    let outcome = train(&data, &options);
    let triple =
        |a: usize, b: usize, c: usize| eps(&outcome, &data, &[sites[a], sites[b], sites[c]]);
    let found = triple(1, 4, 7);
    assert!((found - 3.0).abs() < 0.75, "planted 3, found {found}");
    for other in [triple(0, 2, 3), triple(1, 4, 8), triple(2, 5, 8)] {
        assert!(other.abs() < 0.75, "nothing planted, found {other}");
    }
}

/// Threads change nothing: neither predictions nor epochs.
#[test]
fn threads_change_nothing() {
    let sites = [
        (2, b'C'),
        (3, b'D'),
        (5, b'E'),
        (7, b'F'),
        (9, b'G'),
        (10, b'H'),
    ];
    let data = table(12, &sites, 300, |c| c(2) * c(3) + c(5) - c(9) * c(10));
    let run = |threads: usize| {
        let mut options = options(Pool::Position, |lyra| lyra.dropout = 0.2);
        options.training.epochs = 3;
        options.threads = threads;
        options.baselines = Baseline::ALL.to_vec();
        let outcome = train(&data, &options);
        let rows = outcome
            .predictions
            .iter()
            .map(|p| (p.row, p.head.clone(), p.baselines.clone()));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(4));
}

/// Where few positions vary they alone are read, and a saved head predicts what the run did.
#[test]
fn few_sites_are_read_alone() {
    let sites: Vec<(usize, u8)> = [2, 5, 6, 11, 17, 23, 28].map(|i| (i, b'C')).into();
    let data = table(30, &sites, 300, |c| c(2) * c(28) + c(5) - c(11) * c(17));
    let run = |pool: Pool| {
        let mut options = options(pool, |lyra| {
            (lyra.readout, lyra.curve, lyra.members) = (16, true, 3);
            lyra.expansions = Vec::new();
        });
        (options.margin, options.training.epochs) = (Margin::Auto, 3);
        let outcome = train(&data, &options);
        let description = &outcome.description;
        assert_eq!(description.view.sites, [2, 5, 6, 11, 17, 23, 28]);
        assert_eq!(
            (description.lyra.length, description.lyra.sites),
            (Some(7), true)
        );
        saved_heads_predict_the_same(&outcome, &data);
        outcome.description.lyra
    };
    let position = run(Pool::Position);
    assert_eq!((position.members, position.expansions), (0, vec![1.0, 2.0]));
    for pool in [Pool::Auto, Pool::Sites] {
        let sites = run(pool);
        assert_eq!((sites.members, sites.ranks, sites.depth), (3, true, 0));
    }
}

/// Members of one network find a product of four sites, which pairs do not.
#[test]
fn members_learn_a_product_of_four_sites() {
    let sites: Vec<(usize, u8)> = (0..9).map(|i| (i, b"CDEFGHIKL"[i])).collect();
    let data = table(9, &sites, 1_200, |c| {
        c(0) - c(3) + 0.5 * c(5) + 6.0 * c(1) * c(4) * c(7) * c(8)
    });
    let mut options = options(Pool::Sites, |lyra| (lyra.curve, lyra.members) = (true, 4));
    (options.margin, options.training.epochs) = (Margin::Auto, 80);
    options.baselines = vec![Baseline::PairwiseRidge];
    let outcome = train(&data, &options);
    let fold = &outcome.report.folds[0];
    let head = fold.head.r2.expect("R2");
    let pairs = fold.baselines[0].test.r2.expect("R2");
    assert!(head > 0.95 && pairs < 0.9, "{head} beside {pairs} of pairs");
}

fn saved_heads_predict_the_same(outcome: &Outcome, data: &Dataset) {
    let genotypes: Vec<Genotype> = outcome
        .predictions
        .iter()
        .map(|p| {
            let (row, wild_type) = (
                &data.sequences[p.row],
                data.wild_type.as_ref().expect("one"),
            );
            let changed = (0..30).filter(|&i| row[i] != wild_type[i]);
            changed.map(|i| (i, row[i])).collect()
        })
        .collect();
    let loaded = predict(outcome, data, &genotypes);
    for (now, then) in loaded.iter().zip(&outcome.predictions) {
        assert!(
            (now - then.head[0]).abs() < 1e-5,
            "{now} and {}",
            then.head[0]
        );
    }
}
