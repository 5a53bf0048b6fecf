//! Programs of other makes read what the binary writes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cistron_tests::binary::{cistron, finish};
use cistron_tests::fixture::{Fixture, bases};
use cistron_tests::oracle;
use cistron_tests::track::{chunks, lines};
use cistron_tests::vcf::{header, records, values};

const CONTIG: &str = "phi";

/// A folder with a genome, `ref.fna`, its scored variants, `out.vcf.gz`, and `tracks`.
fn outputs() -> &'static Path {
    static OUTPUTS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = OUTPUTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let genome = bases(&Fixture::get().phix()).unwrap();
        let fasta = [b">phi\n", &genome[..], b"\n>short\nACGTTGCA\n"].concat();
        std::fs::write(folder.path().join("ref.fna"), fasta).unwrap();
        let mut vcf = header(CONTIG, genome.len());
        vcf += &records(CONTIG, &genome, 30).concat();
        // Lines that are not scored must be readable, too.
        let last = genome.len();
        vcf += &format!(
            "{CONTIG}\t{last}\t.\t{}\t*\t.\t.\t.\tGT\t1\n",
            char::from(genome[last - 1])
        );
        std::fs::write(folder.path().join("in.vcf"), vcf).unwrap();
        let run = |line: &str| {
            let mut command = cistron(folder.path(), line.split_whitespace());
            command.arg("--model").arg(Fixture::get().model());
            finish(command).expect(0);
        };
        run("score vcf -q --fasta ref.fna in.vcf -o out.vcf.gz --write-index");
        run("tracks -q --fasta ref.fna --out tracks");
        folder
    });
    folder.path()
}

/// The scored VCF as text.
fn scored() -> Vec<u8> {
    cistron_tests::fixture::gunzip(&outputs().join("out.vcf.gz")).unwrap()
}

#[test]
fn bcftools_reads_and_filters_scores() {
    let Some(bcftools) = oracle::program("bcftools") else {
        return;
    };
    let run = |arguments: &[&str]| oracle::run(&bcftools, arguments, outputs());
    let viewed = run(&["view", "--no-version", "out.vcf.gz"]);
    let read = values(viewed.as_bytes(), "CIS_LLR");
    let ours = values(&scored(), "CIS_LLR");
    assert_eq!(read.len(), ours.len());
    for (read, ours) in read.iter().flatten().zip(ours.iter().flatten()) {
        let (read, ours): (f64, f64) = (read.parse().unwrap(), ours.parse().unwrap());
        assert!(
            (read - ours).abs() <= 1e-5 * ours.abs(),
            "{read} and {ours}"
        );
    }
    // Typed as declared: one number and one word an ALT.
    let query = run(&[
        "query",
        "-f",
        "%POS\t%ALT\t%CIS_LLR\t%CIS_STATUS\n",
        "out.vcf.gz",
    ]);
    assert_eq!(query.lines().count(), ours.len());
    for line in query.lines() {
        let counts: Vec<usize> = line
            .split('\t')
            .map(|field| field.split(',').count())
            .collect();
        assert_eq!(counts[1], counts[3], "{line}");
    }
    let negative = run(&["view", "-H", "-i", "INFO/CIS_LLR[*]<0", "out.vcf.gz"]);
    let is_negative = |scores: &&Vec<String>| scores.iter().any(|score| score.starts_with('-'));
    assert_eq!(
        negative.lines().count(),
        ours.iter().filter(is_negative).count()
    );
    assert!(negative.lines().count() > 0);
    let split = run(&[
        "norm",
        "--no-version",
        "-m-any",
        "-f",
        "ref.fna",
        "out.vcf.gz",
    ]);
    let statuses = values(split.as_bytes(), "CIS_STATUS");
    assert!(
        statuses.iter().all(|statuses| statuses.len() == 1),
        "{split}"
    );
}

/// Without `##contig` lines bcftools needs the index, which must name the contigs.
#[test]
fn tabix_finds_records() {
    let Some(tabix) = oracle::program("tabix") else {
        return;
    };
    let found = oracle::run(&tabix, &["out.vcf.gz", "phi:1000-3000"], outputs());
    let position = |line: &str| line.split('\t').nth(1).unwrap().parse::<u64>().unwrap();
    let all = String::from_utf8(scored()).unwrap();
    let records = all.lines().filter(|line| !line.starts_with('#'));
    let expected: Vec<&str> = records
        .filter(|line| (1000..=3000).contains(&position(line)))
        .collect();
    assert!(expected.len() > 5);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn tabix_finds_stretches_of_tracks() {
    let Some(tabix) = oracle::program("tabix") else {
        return;
    };
    let tracks = outputs().join("tracks");
    for name in [
        "stage1.fwd.boundary.bedGraph.gz",
        "information.rev.bedGraph.gz",
        "stage2.rev.chunks.bed.gz",
    ] {
        // Bases 2001 to 2100 from one are 2000..2100 from zero.
        let found = oracle::run(&tabix, &[name, "phi:2001-2100"], &tracks);
        let number = |text: &str| text.parse::<u64>().unwrap();
        let overlaps = |line: &&Vec<String>| {
            line[0] == "phi" && number(&line[1]) < 2100 && number(&line[2]) > 2000
        };
        let all = lines(&tracks.join(name));
        let expected: Vec<String> = all
            .iter()
            .filter(overlaps)
            .map(|line| line.join("\t"))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{name}");
        let contigs = oracle::run(&tabix, &["-l", name], &tracks);
        assert_eq!(contigs, "phi\nshort\n", "{name}");
    }
    assert!(
        chunks(&tracks.join("stage1.fwd.chunks.bed.gz"), "short")
            .last()
            .unwrap()
            .1
            == 8
    );
}

const READ_BIGWIG: &str = "
import sys, pyBigWig
bw = pyBigWig.open(sys.argv[1])
assert bw.isBigWig()
for contig, length in bw.chroms().items():
    for at, value in enumerate(bw.values(contig, 0, length)):
        print(contig, at, repr(value))
";

#[test]
fn pybigwig_reads_the_values_of_the_bedgraph() {
    let Some(python) = oracle::python("pyBigWig") else {
        return;
    };
    let tracks = outputs().join("tracks");
    for name in [
        "stage1.fwd.boundary",
        "stage2.rev.boundary",
        "information.fwd",
    ] {
        let bigwig = format!("{name}.bw");
        let text = oracle::run(&python, &["-c", READ_BIGWIG, &bigwig], &tracks);
        let mut read = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        for (contig, length) in [("phi", 5_386), ("short", 8)] {
            let path = tracks.join(format!("{name}.bedGraph.gz"));
            for (at, ours) in cistron_tests::track::values(&path, contig, length)
                .iter()
                .enumerate()
            {
                let line = read.next().unwrap();
                assert_eq!(
                    (line[0], line[1]),
                    (contig, at.to_string().as_str()),
                    "{name}"
                );
                let theirs: f64 = line[2].parse().unwrap();
                assert_eq!(theirs as f32, *ours, "{name}, {contig}:{at}");
            }
        }
        assert!(read.next().is_none(), "{name}");
    }
}

const READ_BIGBED: &str = "
import sys, pyBigWig
bb = pyBigWig.open(sys.argv[1])
assert bb.isBigBed()
assert 'float   probability' in bb.SQL().decode() if isinstance(bb.SQL(), bytes) else 'probability' in bb.SQL()
for contig, length in bb.chroms().items():
    for start, end, rest in bb.entries(contig, 0, length):
        print(contig, start, end, rest, sep='\\t')
";

#[test]
fn pybigwig_reads_the_chunks_of_the_bed() {
    let Some(python) = oracle::python("pyBigWig") else {
        return;
    };
    let tracks = outputs().join("tracks");
    for name in ["stage1.fwd.chunks", "stage2.rev.chunks"] {
        let bigbed = format!("{name}.bb");
        let text = oracle::run(&python, &["-c", READ_BIGBED, &bigbed], &tracks);
        let theirs: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        let ours = lines(&tracks.join(format!("{name}.bed.gz")));
        assert_eq!(theirs.len(), ours.len());
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs[..9], ours[..], "{name}");
            let (start, end): (u64, u64) = (ours[1].parse().unwrap(), ours[2].parse().unwrap());
            assert_eq!(theirs[9], (end - start).to_string());
            let probability: f64 = theirs[10].parse().unwrap();
            assert_eq!((probability * 1000.0).round().to_string(), ours[4]);
        }
    }
}

const READ_SAFETENSORS: &str = "
import sys, json
from safetensors import safe_open
with safe_open(sys.argv[1], 'numpy') as file:
    print(json.dumps({name: list(file.get_tensor(name).shape) for name in file.keys()}))
";

#[test]
fn python_reads_the_weights() {
    let Some(python) = oracle::python("safetensors.numpy") else {
        return;
    };
    let path: PathBuf = Fixture::get().model().join("model.safetensors");
    let path = path.display().to_string();
    let text = oracle::run(&python, &["-c", READ_SAFETENSORS, &path], outputs());
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut inspect = cistron(outputs(), ["model", "inspect", "--json", "--model"]);
    inspect.arg(Fixture::get().model());
    let ours = finish(inspect).expect(0).json();
    let tensors = ours["tensors"].as_array().unwrap();
    assert_eq!(theirs.as_object().unwrap().len(), tensors.len());
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        assert_eq!(theirs[name], tensor["shape"], "{name}");
    }
}
