use cistron_genome::coord::Topology;
use cistron_genome::fasta::Contig;
use cistron_genome::revcomp;
use proptest::prelude::*;

use super::*;
use crate::engine::Tail;
use crate::engine::tests::engine;
use crate::metrics::rank::mix;

fn letters(length: usize, salt: u64) -> Vec<u8> {
    let letter = |i: usize| b"ACGT"[mix(i as u64 + (salt << 32)) as usize % 4];
    (0..length).map(letter).collect()
}

fn relatives(contigs: &[&[u8]]) -> Relatives {
    let contig = |(i, bases): (usize, &&[u8])| Contig {
        name: i.to_string().as_str().into(),
        description: String::new(),
        bases: bases.to_vec(),
        topology: Topology::Linear,
    };
    let contigs = contigs.iter().enumerate().map(contig).collect();
    Relatives::of(contigs).expect("few bases")
}

/// `bases` with every base of every `every`th codon's end changed.
fn silent(bases: &[u8], every: usize) -> Vec<u8> {
    let other = |base: u8| b"CGTA"[usize::from(code(base))];
    let ends = |i: usize| i % (3 * every) == 2;
    let base = |(i, &base): (usize, &u8)| if ends(i) { other(base) } else { base };
    bases.iter().enumerate().map(base).collect()
}

/// Log-likelihoods of `bases` with relatives of a model that knows nothing.
fn read(relatives: &Relatives, bases: &[u8]) -> Vec<f32> {
    let mut values = vec![0.25f32.ln(); bases.len()];
    relatives.mix_whole(bases, &mut values);
    values
}

#[test]
fn what_aligns_with_nothing_is_the_models() {
    let relatives = relatives(&[&letters(5000, 1), b"ACGT", b""]);
    assert!(
        read(&relatives, &letters(2000, 2))
            .iter()
            .all(|&v| v == 0.25f32.ln())
    );
}

#[test]
fn what_a_relative_has_is_likely_on_both_strands() {
    let bases = letters(900, 1);
    let near = silent(&bases, 2);
    for relative in [near.clone(), revcomp(&near)] {
        let relatives = relatives(&[&letters(300, 3), &relative, &letters(300, 4)]);
        let values = &read(&relatives, &bases)[300..];
        let mean = |phase: usize| {
            let of: Vec<f32> = values.iter().copied().skip(phase).step_by(3).collect();
            of.iter().sum::<f32>() / of.len() as f32
        };
        // Half of the third bases are others than the relative's: they are not trusted.
        assert!(mean(0) > -0.1 && mean(1) > -0.1, "{} {}", mean(0), mean(1));
        assert!(mean(2) < -0.7 && mean(2) > -2.0, "{}", mean(2));
    }
}

#[test]
fn a_change_costs_most_where_relatives_agree() {
    let bases = letters(900, 1);
    let relatives = relatives(&[&silent(&bases, 2), &silent(&bases, 3)]);
    let cost = |at: usize| {
        let mut changed = bases.clone();
        changed[at] = b"CGTA"[usize::from(code(bases[at]))];
        let sum = |bases: &[u8]| read(&relatives, bases)[at..at + 64].iter().sum::<f32>();
        sum(&changed) - sum(&bases)
    };
    // At 594 and 595 both have the base, at 596 neither has it, and what they have is the change.
    assert!(
        cost(594) < -3.0 && cost(595) < -3.0,
        "{} {}",
        cost(594),
        cost(595)
    );
    assert!(cost(596) > 0.0, "{}", cost(596));
}

#[test]
fn branches_are_read_as_the_whole_sequences_are() {
    let bases = letters(700, 1);
    let other = silent(&bases, 2);
    let engine = engine().with_relatives(relatives(&[&other]));
    let tail = [&bases[300..364], b"GATTACA", &bases[371..420]].concat();
    let branch = Branch {
        prefix: bases[..300].to_vec(),
        reference: bases[300..500].to_vec(),
        tails: vec![Tail {
            step: 1,
            bases: tail[64..].to_vec(),
        }],
    };
    let found = engine.branches(&[branch]).expect("read").remove(0);
    let changed = [&bases[..300], &tail].concat();
    let whole = engine
        .log_likelihoods(&[&bases[..500], &changed])
        .expect("read");
    let close = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5;
        assert!(
            !found.iter().zip(expected).any(far),
            "{found:?} {expected:?}"
        );
    };
    close(&found.reference, &whole[0][300..]);
    close(&found.tails[0], &whole[1][364..]);
}

proptest! {
    #[test]
    fn any_bytes_leave_likelihoods(
        relative in prop::collection::vec(prop::sample::select(b"ACGTNacgt*".to_vec()), 0..300),
        cut in 0usize..300,
        bases in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let relatives = relatives(&[&relative, &relative]);
        let query = [&relative[cut.min(relative.len())..], &bases, &relative].concat();
        let mut copies = Copies::default();
        for &base in &query {
            let values = [0, 1, 2, 3].map(|code| copies.mix(&relatives, code, 0.25f32.ln()).exp());
            prop_assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            copies.push(&relatives, code(base));
        }
    }
}
