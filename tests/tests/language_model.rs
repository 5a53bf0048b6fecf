//! `eval lm`, `generate` and `model inspect` on the fixture's model.

use cistron_tests::binary::{Finished, cistron, finish};
use cistron_tests::fixture::{Fixture, bases};

/// The binary with the fixture's model, in the fixture's folder.
#[track_caller]
fn run(line: &str) -> Finished {
    let fixture = Fixture::get();
    let mut command = cistron(fixture.folder(), line.split_whitespace());
    command.args(["-q", "--model"]).arg(fixture.model());
    finish(command).expect(0)
}

/// Names and sequences of FASTA text.
fn sequences(fasta: &str) -> Vec<(String, String)> {
    let records = fasta.split('>').skip(1).map(|record| {
        let (header, bases) = record.split_once('\n').unwrap();
        let name = header.split(' ').next().unwrap();
        (name.to_owned(), bases.replace('\n', ""))
    });
    records.collect()
}

#[test]
fn evaluation_says_the_same_as_json_and_as_text() {
    let json = run("eval lm --json --corpus corpus phix.fna").json();
    let genome = &json["genomes"][0];
    assert_eq!(genome["bases"], 5_386);
    let bits = genome["bits_per_base"].as_f64().unwrap();
    assert!((1.8..2.2).contains(&bits), "a little trained model: {bits}");
    let text = run("eval lm --corpus corpus phix.fna");
    let text = text.text();
    assert!(
        text.contains(&format!("model\t{bits:.4} bits per base")),
        "{text}"
    );
    for baseline in genome["baselines"].as_array().unwrap() {
        let bits = baseline["bits_per_base"].as_f64().unwrap();
        let line = format!("markov order {}\t{bits:.4} bits", baseline["order"]);
        assert!(text.contains(&line), "{line} in {text}");
    }
    let stages = genome["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    for stage in stages {
        let selected = stage["selected"].as_f64().unwrap();
        assert!(selected > 0.0 && selected <= 1.0);
    }
}

/// The slice on which models are compared, of several genomes in one call.
#[test]
fn the_same_slice_of_many_genomes_is_read() {
    let slice = "--start 1000 --bases 3000 --context 200 --window 600";
    let json = run(&format!("eval lm --json {slice} phix.fna ecoli.fna")).json();
    let genomes = json["genomes"].as_array().unwrap();
    let mut sum = 0.0;
    for (genome, name) in genomes.iter().zip(["phix", "ecoli"]) {
        assert_eq!(genome["name"], name);
        assert_eq!(genome["bases"], 3000);
        assert_eq!(genome["windows"], 8);
        assert_eq!(
            (&genome["slice"]["start"], &genome["slice"]["end"]),
            (&1000.into(), &4000.into())
        );
        sum += genome["bits_per_base"].as_f64().unwrap();
        for order in ["markov5", "markov9"] {
            let bits = genome[order].as_f64().unwrap();
            assert!((0.5..2.2).contains(&bits), "{order} {bits}");
        }
    }
    let mean = json["mean_bits_per_base"].as_f64().unwrap();
    assert!((mean - sum / 2.0).abs() < 1e-9);
}

/// Lengths beyond the trained one, with the state carried on.
#[test]
fn lengths_are_read_twice_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("length.svg");
    let line = format!(
        "eval length --json --times 8 --sequences 3 --plot {} ecoli.fna",
        plot.display()
    );
    let json = run(&line).json();
    let genome = &json["models"][0]["genomes"][0];
    assert_eq!(genome["trained"], 256);
    assert_eq!(genome["length"], 2048);
    let positions = genome["positions"].as_array().unwrap();
    assert_eq!(positions.len(), 6);
    for bin in positions {
        for key in ["bits_per_base", "fresh_bits_per_base"] {
            let bits = bin[key].as_f64().unwrap();
            assert!((1.5..2.5).contains(&bits), "{key} {bits}");
        }
    }
    assert_eq!(genome["norms"].as_array().unwrap().len(), 6);
    assert_eq!(genome["remembrance"].as_array().unwrap().len(), 10);
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
}

/// Order 0 fitted on both strands is known from the counts of four letters.
#[test]
fn the_baseline_of_order_0_is_the_entropy_of_gc() {
    let share = |bases: &[u8]| {
        let gc = bases.iter().filter(|base| b"GC".contains(base)).count();
        gc as f64 / bases.len() as f64
    };
    let trained = share(&bases(&Fixture::get().ecoli()).unwrap());
    let read = share(&bases(&Fixture::get().phix()).unwrap());
    let expected = -(read * (trained / 2.0).log2() + (1.0 - read) * ((1.0 - trained) / 2.0).log2());
    let json = run("eval lm --json --corpus corpus --markov 0 phix.fna").json();
    let found = json["genomes"][0]["baselines"][0]["bits_per_base"]
        .as_f64()
        .unwrap();
    // Counts are smoothed by at most a base each.
    assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
}

#[test]
fn a_seed_gives_one_sequence() {
    let draw = |arguments: &str| {
        let finished = run(&format!("generate --length 120 {arguments}"));
        sequences(finished.text())
    };
    let first = draw("--seed 7 --prompt acgtacgt");
    assert_eq!(first, draw("--seed 7 --prompt ACGTACGT --threads 1"));
    assert_eq!(first.len(), 1);
    let bases = &first[0].1;
    assert_eq!(bases.len(), 8 + 120);
    assert!(bases.starts_with("ACGTACGT"));
    assert!(bases.bytes().all(|base| b"ACGT".contains(&base)), "{bases}");
    assert_ne!(first, draw("--seed 8 --prompt ACGTACGT"));
    // The most likely base does not depend on chance.
    let greedy = |seed: u64| draw(&format!("--temperature 0 --seed {seed}"))[0].1.clone();
    assert_eq!(greedy(1), greedy(2));
}

#[test]
fn a_sequence_does_not_depend_on_the_others() {
    let one = run("generate --length 80 --seed 3 --prompt ACG");
    let three = run("generate --length 80 --seed 3 --prompt ACG --count 3");
    let (one, three) = (sequences(one.text()), sequences(three.text()));
    assert_eq!(three.len(), 3);
    assert_eq!(three[0], one[0]);
    assert_ne!(three[0].1, three[1].1);
    assert_ne!(three[1].1, three[2].1);
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.fna");
    std::fs::write(&prompts, ">a\nACG\n>b\nTTTTGACA\n").unwrap();
    let both = run(&format!(
        "generate --length 80 --seed 3 --prompts {}",
        prompts.display()
    ));
    let both = sequences(both.text());
    assert_eq!(
        both[0].1, one[0].1,
        "a longer prompt beside it changes nothing"
    );
    assert!(both[1].1.starts_with("TTTTGACA") && both[1].1.len() == 88);
}

#[test]
fn a_model_is_described_as_it_is() {
    let json = run("model inspect --json").json();
    let tensors = json["tensors"].as_array().unwrap();
    let sizes = tensors.iter().map(|tensor| {
        let shape = tensor["shape"].as_array().unwrap();
        shape.iter().map(|n| n.as_u64().unwrap()).product::<u64>()
    });
    assert_eq!(sizes.sum::<u64>(), json["parameters"].as_u64().unwrap());
    assert_eq!(json["config"]["arch_layout"][1][0], "m1");
    let finished = run("model inspect --tensors");
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        assert!(finished.text().contains(&format!("\n{name}\t")), "{name}");
    }
}

/// What was packed comes out again, and is what the manifest says.
#[test]
fn a_corpus_gives_back_its_genomes() {
    for genome in ["ecoli", "phix"] {
        let exported = run_plain(&format!("corpus export corpus {genome}"));
        let path = Fixture::get().folder().join(format!("{genome}.fna"));
        let original = std::fs::read_to_string(path).unwrap();
        assert!(exported.text().eq_ignore_ascii_case(&original), "{genome}");
    }
    let stats = run_plain("corpus stats corpus --json").json();
    assert_eq!(stats["train"]["bases"], 40_000);
    assert_eq!(stats["val"]["bases"], 5_386);
    run_plain("corpus verify corpus");
}

/// As [`run`] for a command without a model.
#[track_caller]
fn run_plain(line: &str) -> Finished {
    cistron_tests::binary::run(Fixture::get().folder(), line)
}
