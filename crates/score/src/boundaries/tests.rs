//! Values do not depend on how a contig is read.

use super::*;
use crate::engine::tests::engine;
use cistron_genome::coord::Topology;
use cistron_model::Config;

fn bases(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32)
        .map(|i| b"ACGT"[((i ^ seed).wrapping_mul(2_654_435_761) >> 13) as usize % 4])
        .collect()
}

fn contig(name: &str, bases: Vec<u8>, topology: Topology) -> Contig {
    Contig {
        name: name.into(),
        description: String::new(),
        bases,
        topology,
    }
}

/// All pieces of one strand of a contig, joined.
fn whole(found: &[(usize, Strand, Piece)], contig: usize, strand: Strand) -> Piece {
    let mut pieces: Vec<&Piece> = found
        .iter()
        .filter(|(c, s, _)| (*c, *s) == (contig, strand))
        .map(|(_, _, piece)| piece)
        .collect();
    pieces.sort_by_key(|piece| piece.start);
    let mut all = pieces[0].clone();
    for piece in &pieces[1..] {
        assert_eq!(piece.start, all.information.len());
        all.information.extend(&piece.information);
        all.entropy.extend(&piece.entropy);
        for (all, stage) in all.stages.iter_mut().zip(&piece.stages) {
            all.prob.extend(&stage.prob);
            all.start.extend(&stage.start);
        }
    }
    all
}

fn found(engine: &Engine, contigs: &[Contig], tile: usize) -> Vec<(usize, Strand, Piece)> {
    let mut found = Vec::new();
    let reading = Reading { warm_up: 500, tile };
    let strands = [Strand::Forward, Strand::Reverse];
    read(
        engine,
        contigs,
        &strands,
        reading,
        &mut |contig, strand, piece| {
            found.push((contig, strand, piece));
            Ok(())
        },
    )
    .expect("read");
    found
}

/// A model with two routers, and attention in its main network.
fn deep() -> HNet {
    let text = r#"{"arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": [16, 16, 16],
        "d_intermediate": [0, 0, 32], "vocab_size": 8,
        "ssm_cfg": {"d_state": 4, "headdim": 8}, "attn_cfg":
        {"num_heads": 2, "rotary_emb_dim": 4, "window_size": -1},
        "cistron": {"ratio": [3.0, 2.0]}}"#;
    let config = Config::from_json(text, "config.json".as_ref()).expect("valid");
    HNet::new(&config, 1, Device::Cpu).expect("valid")
}

#[test]
fn tiles_threads_and_neighbours_change_nothing() {
    let contigs = [
        contig(
            "long",
            bases(2 * block(Device::Cpu) + 77, 0),
            Topology::Linear,
        ),
        contig("short", bases(3, 5), Topology::Linear),
        contig("none", vec![], Topology::Linear),
        contig("ring", bases(block(Device::Cpu) + 1, 9), Topology::Circular),
    ];
    let model = bounded(&deep(), 2048);
    let one = Engine::new(&model, 1).expect("threads");
    let three = Engine::new(&model, 3).expect("threads");
    let reference = found(&one, &contigs, 1 << 30);
    for (engine, tile) in [(&one, 1), (&three, 1), (&three, 20_000)] {
        let other = found(engine, &contigs, tile);
        for number in [0, 1, 3] {
            for strand in [Strand::Forward, Strand::Reverse] {
                assert_eq!(
                    whole(&other, number, strand),
                    whole(&reference, number, strand)
                );
            }
        }
    }
    let alone = found(&one, &contigs[3..], 1);
    assert_eq!(
        whole(&alone, 0, Strand::Reverse),
        whole(&reference, 3, Strand::Reverse)
    );
}

/// Blocks with carried state against one pass that has never heard of blocks.
#[test]
fn values_equal_those_of_one_pass() {
    let length = 2 * block(Device::Cpu) + 1234;
    let linear = contig("c", bases(length, 0), Topology::Linear);
    for context in [0, 2048] {
        let model = bounded(&deep(), context);
        let engine = Engine::new(&model, 2).expect("threads");
        let read = whole(
            &found(&engine, std::slice::from_ref(&linear), 1),
            0,
            Strand::Forward,
        );
        let one = tch::no_grad(|| engine.read(&model, &linear.bases)).expect("read");
        let close = |a: f32, b: f32| assert!((a - b).abs() <= 1e-4, "{a} {b}");
        for (bits, log) in read.information.iter().zip(&one.log_likelihoods) {
            close(*bits, -log * std::f32::consts::LOG2_E);
        }
        assert_eq!(read.stages[0].start, one.stages[0].mask[1..]);
        for (p, q) in read.stages[0].prob.iter().zip(&one.stages[0].prob[1..]) {
            close(*p, *q);
        }
        let chunks: Vec<usize> = (0..=length).filter(|&i| one.stages[0].mask[i]).collect();
        let inner = &one.stages[1];
        for ((&token, p), b) in chunks.iter().zip(&inner.prob).zip(&inner.mask).skip(1) {
            close(read.stages[1].prob[token - 1], *p);
            assert_eq!(read.stages[1].start[token - 1], *b);
        }
        let asked = read.stages[1].prob.iter().filter(|p| **p > 0.0).count();
        assert!(asked > 0 && asked < chunks.len());
    }
}

#[test]
fn rings_warm_up_on_their_end_and_strands_mirror() {
    let engine = engine();
    let ring = contig("c", bases(3_000, 3), Topology::Circular);
    let found_ring = found(&engine, std::slice::from_ref(&ring), 1);
    let read = whole(&found_ring, 0, Strand::Forward);
    // The last 500 bases, then the whole.
    let unrolled = [&ring.bases[2_500..], &ring.bases].concat();
    let one =
        tch::no_grad(|| engine.map(&[0], |model, _| engine.read(model, &unrolled))).expect("read");
    for (bits, log) in read.information.iter().zip(&one[0].log_likelihoods[500..]) {
        assert!((bits + log * std::f32::consts::LOG2_E).abs() <= 1e-4);
    }
    let turned = contig(
        "c",
        cistron_genome::revcomp(&ring.bases),
        Topology::Circular,
    );
    let mut mirror = whole(&found(&engine, &[turned], 1), 0, Strand::Forward);
    mirror.information.reverse();
    mirror.entropy.reverse();
    let reverse = whole(&found_ring, 0, Strand::Reverse);
    assert_eq!(reverse.information, mirror.information);
    assert_eq!(reverse.entropy, mirror.entropy);
    assert!(read.entropy.iter().all(|bits| (0.0..=3.001).contains(bits)));
}
