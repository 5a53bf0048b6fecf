//! Each measurement runs, and its figures fit together.

use cistron_bench::{
    Clock, DecodeOptions, InferOptions, TrainOptions, decode, infer, preset, train,
};
use cistron_model::{Checkpointing, Compute, Every, Precision};
use tch::Device;

const CLOCK: Clock = Clock {
    device: Device::Cpu,
    repeat: 2,
    warmup: 1,
};

fn near(found: &[f64], wanted: &[f64]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.03)
}

#[test]
fn training_has_the_selection_asked_for() {
    let options = |checkpointing| TrainOptions {
        config: preset("tiny").expect("a preset"),
        compute: Compute {
            precision: Precision::Bf16,
            checkpointing,
            selection: vec![0.34, 0.5],
        },
        batch: 2,
        length: 400,
    };
    let kept = train(&options(Checkpointing::default()), &CLOCK).expect("measured");
    assert!(near(&kept.selection, &[0.34, 0.5]), "{:?}", kept.selection);
    assert!((kept.tokens_per_second * kept.seconds.median - 800.0).abs() < 1e-6);
    assert!((0.5..4.0).contains(&kept.loss), "{}", kept.loss);
    let again = train(&options(Checkpointing::Every(Every::All)), &CLOCK).expect("measured");
    assert_eq!(again.parameters, kept.parameters);
}

#[test]
fn reading_whole_and_in_pieces_gives_finite_scores() {
    for piece in [None, Some(170)] {
        let options = InferOptions {
            config: preset("tiny").expect("a preset"),
            compute: Compute::new(Precision::Fp32),
            batch: 2,
            lengths: vec![100, 400],
            piece,
        };
        let mut told = 0;
        let results = infer(&options, &CLOCK, &mut |_| told += 1).expect("measured");
        assert_eq!((results.len(), told), (2, 2));
        assert!(results.iter().all(|result| result.finite));
        assert_eq!(results[0].piece, None);
        assert_eq!(results[1].piece, piece);
        assert!(results[1].flops_per_second > 0.0);
    }
}

#[test]
fn decoding_counts_all_sequences() {
    let options = DecodeOptions {
        config: preset("tiny").expect("a preset"),
        compute: Compute::new(Precision::Fp32),
        batches: vec![1, 3],
        prompt: 20,
        steps: 4,
        without_graph: false,
    };
    let results = decode(&options, &CLOCK, &mut |_| ()).expect("measured");
    let rate = results[1].tokens_per_second * results[1].seconds.median;
    assert!((rate - 3.0).abs() < 1e-9);
    assert!(results[1].state_bytes > 2 * results[0].state_bytes);
}
