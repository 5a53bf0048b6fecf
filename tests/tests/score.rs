//! Scores change nothing but INFO, and depend on nothing but the variant and its reference.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use cistron_tests::binary::{Finished, cistron, finish};
use cistron_tests::fixture::{Fixture, bases, gunzip};
use cistron_tests::vcf::{header, record_lines, records, values};
use cistron_variant::annotate::strip;

const CONTIG: &str = "NC_000913.3";

/// A folder with `in.vcf`: variants on the genome of the fixture.
struct Input {
    folder: tempfile::TempDir,
    bases: Vec<u8>,
    records: Vec<String>,
    scored: Vec<u8>,
}

impl Input {
    fn get() -> &'static Self {
        static INPUT: OnceLock<Input> = OnceLock::new();
        INPUT.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let bases = bases(&Fixture::get().ecoli()).unwrap();
            let records = records(CONTIG, &bases, 40);
            let text = header(CONTIG, bases.len()) + &records.concat();
            std::fs::write(folder.path().join("in.vcf"), text).unwrap();
            let scored = score(folder.path(), "in.vcf --threads 1").stdout;
            Self {
                folder,
                bases,
                records,
                scored,
            }
        })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn text(&self) -> Vec<u8> {
        std::fs::read(self.path().join("in.vcf")).unwrap()
    }
}

/// `cistron score vcf` on the genome and with the model of the fixture.
#[track_caller]
fn score(folder: &Path, arguments: &str) -> Finished {
    let fixture = Fixture::get();
    finish(command(folder, &fixture.ecoli(), arguments)).expect(0)
}

fn command(folder: &Path, fasta: &Path, arguments: &str) -> Command {
    let mut command = cistron(folder, ["score", "vcf", "-q", "--no-version"]);
    command.arg("--fasta").arg(fasta);
    command.arg("--model").arg(Fixture::get().model());
    command.args(arguments.split_whitespace());
    command
}

/// The scores, one a record that has one ALT.
fn numbers(vcf: &[u8]) -> Vec<f64> {
    let of_record = |values: Vec<String>| values.iter().map(|v| v.parse().unwrap()).collect();
    let lists: Vec<Vec<f64>> = values(vcf, "CIS_LLR").into_iter().map(of_record).collect();
    lists.concat()
}

#[test]
fn without_our_keys_the_input_is_left() {
    let input = Input::get();
    assert!(strip(&input.scored) == input.text());
    assert!(input.scored != input.text());
}

#[test]
fn every_alt_has_a_score_and_a_status() {
    let input = Input::get();
    let scores = values(&input.scored, "CIS_LLR");
    let statuses = values(&input.scored, "CIS_STATUS");
    for ((record, scores), statuses) in input.records.iter().zip(&scores).zip(&statuses) {
        let alts = record.split('\t').nth(4).unwrap().split(',').count();
        assert_eq!(scores.len(), alts, "{record}");
        assert!(
            statuses.iter().all(|status| status == "OK"),
            "{record}: {statuses:?}"
        );
        assert_eq!(statuses.len(), alts, "{record}");
    }
    let scores = numbers(&input.scored);
    assert!(scores.iter().all(|score| score.is_finite()));
    assert!(scores.iter().any(|&score| score != scores[0]));
}

#[test]
fn every_way_in_and_out_gives_the_same() {
    let input = Input::get();
    let folder = input.path();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&input.text()).unwrap();
    std::fs::write(folder.join("in.vcf.gz"), gzip.finish().unwrap()).unwrap();

    assert!(score(folder, "in.vcf -o plain.vcf").stdout.is_empty());
    assert!(std::fs::read(folder.join("plain.vcf")).unwrap() == input.scored);

    score(folder, "in.vcf.gz -o block.vcf.gz -W");
    assert!(gunzip(&folder.join("block.vcf.gz")).unwrap() == input.scored);
    assert!(folder.join("block.vcf.gz.tbi").is_file());

    let mut piped = command(folder, &Fixture::get().ecoli(), "-");
    piped.stdin(std::fs::File::open(folder.join("in.vcf")).unwrap());
    assert!(finish(piped).expect(0).stdout == input.scored);

    // What was written is read again: BGZF in, and our own keys replaced.
    assert!(score(folder, "block.vcf.gz").stdout == input.scored);

    let block = score(folder, "in.vcf -O z").stdout;
    std::fs::write(folder.join("stdout.vcf.gz"), block).unwrap();
    assert!(gunzip(&folder.join("stdout.vcf.gz")).unwrap() == input.scored);
}

#[test]
fn threads_do_not_change_scores() {
    let input = Input::get();
    for threads in ["2", "5"] {
        let arguments = format!("in.vcf --threads {threads}");
        assert!(
            score(input.path(), &arguments).stdout == input.scored,
            "{threads}"
        );
    }
}

#[test]
fn other_records_do_not_change_scores() {
    let input = Input::get();
    let header = header(CONTIG, input.bases.len());
    let all = record_lines(&input.scored);
    for (i, parts) in [1, 7, 32].into_iter().zip([0..1, 1..8, 8..40]) {
        let name = format!("part{i}.vcf");
        let text = header.clone() + &input.records[parts.clone()].concat();
        std::fs::write(input.path().join(&name), text).unwrap();
        let scored = score(input.path(), &name).stdout;
        assert_eq!(record_lines(&scored), all[parts]);
    }
    // Backwards and twice.
    let mut turned: Vec<String> = input.records.iter().rev().cloned().collect();
    turned.extend(input.records.iter().cloned());
    std::fs::write(input.path().join("turned.vcf"), header + &turned.concat()).unwrap();
    let scored = record_lines(&score(input.path(), "turned.vcf").stdout);
    let (first, second) = scored.split_at(all.len());
    assert!(first.iter().rev().eq(&all));
    assert_eq!(second, all);
}

#[test]
fn both_strands_are_the_mean_of_each() {
    let input = Input::get();
    let strand =
        |name: &str| numbers(&score(input.path(), &format!("in.vcf --strand {name}")).stdout);
    let (forward, reverse) = (strand("fwd"), strand("rc"));
    assert_ne!(forward, reverse);
    for ((both, forward), reverse) in numbers(&input.scored).iter().zip(&forward).zip(&reverse) {
        let mean = (forward + reverse) / 2.0;
        assert!(
            (both - mean).abs() <= 1e-5 * (1.0 + mean.abs()),
            "{both} and {mean}"
        );
    }
}

/// `eval lm` reads the same two windows as sequences of their own.
#[test]
fn a_score_is_the_difference_of_two_likelihoods() {
    const CONTEXT: usize = 100;
    let input = Input::get();
    let folder = input.path();
    let arguments = format!("in.vcf --strand fwd --grid 1 --context {CONTEXT}");
    let scored = score(folder, &arguments).stdout;
    let scores = values(&scored, "CIS_LLR");
    let snvs = (0..input.records.len())
        .filter(|i| (i + 1) % 4 == 0)
        .take(3);
    for i in snvs {
        let columns: Vec<&str> = input.records[i].split('\t').collect();
        let at = columns[1].parse::<usize>().unwrap() - 1;
        let mut window = input.bases[at - CONTEXT / 2..at + CONTEXT / 2].to_vec();
        let nats = |window: &[u8], name: &str| {
            let text = [b">w\n", window, b"\n"].concat();
            std::fs::write(folder.join(name), text).unwrap();
            let mut eval = cistron(folder, ["eval", "lm", "-q", "--json", "--context", "100"]);
            eval.arg("--model").arg(Fixture::get().model()).arg(name);
            let genome = finish(eval).expect(0).json()["genomes"][0].clone();
            assert_eq!(genome["bases"], CONTEXT);
            -genome["bits_per_base"].as_f64().unwrap() * CONTEXT as f64 * std::f64::consts::LN_2
        };
        let reference = nats(&window, "reference.fna");
        window[CONTEXT / 2] = columns[4].as_bytes()[0];
        let expected = nats(&window, "alternate.fna") - reference;
        let found: f64 = scores[i][0].parse().unwrap();
        // Sums of a hundred logarithms in single precision.
        assert!((found - expected).abs() < 1e-3, "{found} and {expected}");
    }
}

/// A circular genome has no first base: turning it changes positions and cells, not scores.
#[test]
fn a_circular_contig_has_no_ends() {
    const TURN: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let genome = bases(&Fixture::get().phix()).unwrap();
    let turned = [&genome[TURN..], &genome[..TURN]].concat();
    let scores = |name: &str, genome: &[u8], first: usize, circular: &str| {
        let fasta = folder.path().join(format!("{name}.fna"));
        std::fs::write(&fasta, [b">phi\n", genome, b"\n"].concat()).unwrap();
        let records: String = (0..8)
            .map(|i| {
                let at = (first + 3 * i) % genome.len();
                let base = char::from(genome[at]);
                let other = if base == 'A' { 'C' } else { 'A' };
                format!("phi\t{}\t.\t{base}\t{other}\t.\t.\t.\tGT\t1\n", at + 1)
            })
            .collect();
        let vcf = header("phi", genome.len()) + &records;
        std::fs::write(folder.path().join("in.vcf"), vcf).unwrap();
        let run = command(
            folder.path(),
            &fasta,
            &format!("in.vcf --grid 1 {circular}"),
        );
        values(&finish(run).expect(0).stdout, "CIS_LLR")
    };
    let at_start = scores("start", &genome, 2, "--circular all");
    let inside = scores("inside", &turned, genome.len() - TURN + 2, "--circular phi");
    assert_eq!(at_start, inside);
    let linear = scores("linear", &genome, 2, "");
    assert_ne!(at_start, linear, "the ends of a linear contig are clipped");
}

/// Names of contigs are looked up, and never guessed.
#[test]
fn aliases_give_the_same_scores() {
    let input = Input::get();
    let folder = input.path();
    let named = String::from_utf8(input.text())
        .unwrap()
        .replace(CONTIG, "chromosome");
    std::fs::write(folder.join("named.vcf"), named).unwrap();
    std::fs::write(folder.join("names.tsv"), format!("chromosome\t{CONTIG}\n")).unwrap();
    let scored = score(folder, "named.vcf --contig-aliases names.tsv").stdout;
    assert_eq!(values(&scored, "CIS_LLR"), values(&input.scored, "CIS_LLR"));
    let unknown = command(folder, &Fixture::get().ecoli(), "named.vcf");
    assert!(
        finish(unknown)
            .expect(1)
            .stderr
            .contains("--contig-aliases")
    );
}

/// A stopped run leaves nothing: a scored VCF is whole or not there.
#[test]
fn a_signal_leaves_no_output() {
    let input = Input::get();
    let folder = tempfile::tempdir().unwrap();
    let text = header(CONTIG, input.bases.len()) + &input.records.concat().repeat(500);
    std::fs::write(folder.path().join("in.vcf"), text).unwrap();
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let ecoli = Fixture::get().ecoli();
        let mut run = command(folder.path(), &ecoli, "in.vcf -o out.vcf.gz -W --threads 1");
        let child = run.stderr(Stdio::piped()).spawn().unwrap();
        // The temporary output is there when scoring begins.
        while std::fs::read_dir(folder.path()).unwrap().count() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let stopped = Finished::from(child.wait_with_output().unwrap()).expect(status);
        assert!(
            stopped.stderr.contains("stopped before the end"),
            "{}",
            stopped.stderr
        );
        let left = std::fs::read_dir(folder.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["in.vcf"]);
    }
}
