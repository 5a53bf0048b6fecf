//! Tracks cover every base once, and no tile start shows in them.

use std::path::{Path, PathBuf};

use cistron_tests::binary::{cistron, finish};
use cistron_tests::fixture::{ECOLI, Fixture};
use cistron_tests::track::{chunks, lines, values};
use serde_json::Value;

const CONTIG: &str = "NC_000913.3";

/// Writes tracks of `fasta` to `name` in `folder`.
fn write(folder: &Path, fasta: &Path, name: &str, arguments: &str) -> PathBuf {
    let mut command = cistron(folder, ["tracks", "-q", "--out", name, "--fasta"]);
    command
        .arg(fasta)
        .arg("--model")
        .arg(Fixture::get().model());
    command.args(arguments.split_whitespace());
    let finished = finish(command).expect(0);
    assert!(finished.stdout.is_empty());
    folder.join(name)
}

/// Not to the last bit: neither on how much is read at a time, nor on threads, nor on what else
/// is in the file.
#[test]
fn values_do_not_depend_on_tiles_threads_or_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let ecoli = Fixture::get().ecoli();
    let genome = cistron_tests::fixture::bases(&ecoli).unwrap();
    let other = cistron_tests::fixture::bases(&Fixture::get().phix()).unwrap();
    let two = [
        b">phi\n",
        &other[..],
        b"\n>",
        CONTIG.as_bytes(),
        b"\n",
        &genome,
        b"\n",
    ]
    .concat();
    std::fs::write(folder.path().join("two.fna"), two).unwrap();
    let formats = "--formats bedgraph,bed --no-report";
    let write = |name: &str, fasta: &Path, arguments: &str| {
        write(
            folder.path(),
            fasta,
            name,
            &format!("{formats} {arguments}"),
        )
    };
    let reference = write("large", &ecoli, "--tile 100000000 --threads 1");
    let others = [
        write("small", &ecoli, "--tile 1 --threads 3"),
        write(
            "two",
            &folder.path().join("two.fna"),
            "--tile 9000 --threads 2",
        ),
    ];
    for strand in ["fwd", "rev"] {
        for track in [
            "stage1.S.boundary",
            "stage2.S.boundary",
            "stage2.S.length",
            "information.S",
            "entropy.S",
        ] {
            let track = track.replace('S', strand);
            let read =
                |out: &PathBuf| values(&out.join(format!("{track}.bedGraph.gz")), CONTIG, ECOLI);
            for other in &others {
                assert_eq!(read(other), read(&reference), "{track}");
            }
        }
        let chunks_of =
            |out: &PathBuf| chunks(&out.join(format!("stage1.{strand}.chunks.bed.gz")), CONTIG);
        for other in &others {
            assert_eq!(chunks_of(other), chunks_of(&reference));
        }
    }
}

/// The length of every chunk is the value of each of its bases.
#[test]
fn lengths_are_those_of_the_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let phix = Fixture::get().phix();
    let out = write(
        folder.path(),
        &phix,
        "phi",
        "--formats bedgraph,bed --no-report --circular all",
    );
    let name = lines(&out.join("information.fwd.bedGraph.gz"))[0][0].clone();
    for stem in ["stage1.fwd", "stage2.rev"] {
        let lengths = values(
            &out.join(format!("{stem}.length.bedGraph.gz")),
            &name,
            5_386,
        );
        for (start, end) in chunks(&out.join(format!("{stem}.chunks.bed.gz")), &name) {
            assert!(
                lengths[start..end]
                    .iter()
                    .all(|&length| length == (end - start) as f32)
            );
        }
    }
}

/// Genes with scores, and what was found of codons, of two genomes in one call.
#[test]
fn annotated_genomes_get_genes_sessions_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let genome = cistron_tests::fixture::bases(&Fixture::get().phix()).unwrap();
    let line = |kind: &str, from: u64, to: u64, strand: char, rest: &str| {
        format!("phi\tx\t{kind}\t{from}\t{to}\t.\t{strand}\t0\t{rest}\n")
    };
    let gff = "##gff-version 3\nphi\tx\tregion\t1\t5386\t.\t+\t.\tID=phi;Is_circular=true\n"
        .to_owned()
        + &line(
            "CDS",
            1001,
            1600,
            '+',
            "ID=b;gene=bbb;locus_tag=t2;product=second",
        )
        + &line(
            "CDS",
            390,
            848,
            '-',
            "ID=a;gene=aaa;locus_tag=t1;product=first",
        )
        + &line("CDS", 5000, 5420, '+', "ID=c;locus_tag=t3");
    for name in ["one", "two"] {
        std::fs::write(
            folder.path().join(format!("{name}.fna")),
            [b">phi\n", &genome[..], b"\n"].concat(),
        )
        .unwrap();
        std::fs::write(folder.path().join(format!("{name}.gff3")), &gff).unwrap();
    }
    std::fs::write(
        folder.path().join("scores.tsv"),
        "locus_tag\tscore\nt1\t2.5\nt9\t1\n",
    )
    .unwrap();
    let line = "tracks -q --fasta one.fna two.fna --gff two.gff3 one.gff3 --gene-scores scores.tsv \
                --control 5000 -o out --model";
    let mut command = cistron(folder.path(), line.split_whitespace());
    command.arg(Fixture::get().model());
    finish(command).expect(0);
    for name in ["one", "two"] {
        let out = folder.path().join("out").join(name);
        let genes = lines(&out.join("genes.gff3.gz"));
        // The third crosses the origin and becomes two lines.
        let places: Vec<(&str, &str)> = genes[1..]
            .iter()
            .map(|g| (g[3].as_str(), g[4].as_str()))
            .collect();
        assert_eq!(
            places,
            [
                ("1", "5386"),
                ("1", "34"),
                ("390", "848"),
                ("1001", "1600"),
                ("5000", "5386")
            ]
        );
        assert!(genes[3][8].ends_with(";ess_score=2.5000"), "{:?}", genes[3]);
        for file in [
            "config.json",
            "igv.json",
            "igv.xml",
            "igv.html",
            "jbrowse.html",
            "hub.txt",
            "index.html",
            "genes.bb",
            "reference.2bit",
            "reference.fa.gz.gzi",
            "stage2.rev.chunks.bb",
            "entropy.fwd.bw",
        ] {
            assert!(out.join(file).is_file(), "{name}/{file}");
        }
        let read = |file: &str| std::fs::read_to_string(out.join(file)).unwrap();
        let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
        let rates = summary["survey"][0]["stages"][0]["rates"]
            .as_array()
            .unwrap();
        let marks: Vec<&str> = rates
            .iter()
            .map(|rate| rate["mark"].as_str().unwrap())
            .collect();
        for mark in [
            "all",
            "codon1",
            "codon2",
            "codon3",
            "antisense1",
            "start_codon",
            "stop_codon",
            "intergenic",
        ] {
            assert!(marks.contains(&mark), "{mark}: {marks:?}");
        }
        let codons = ["codon1", "codon2", "codon3"].map(|mark| {
            let rate = rates.iter().find(|rate| rate["mark"] == mark).unwrap();
            rate["bases"].as_u64().unwrap()
        });
        assert_eq!(
            codons,
            [(600 + 421) / 3 + 1, (600 + 421) / 3, (600 + 421) / 3]
        );
        let report = read("report.html");
        for forbidden in ["src=", "href=\"http", "url(", "@import", "NaN", "inf "] {
            assert!(!report.contains(forbidden), "{forbidden}");
        }
        for part in ["In short", "Gene view", "aaa", "Largest surprises", "<svg"] {
            assert!(report.contains(part), "{part}");
        }
    }
    assert!(folder.path().join("out/index.html").is_file());
}

/// Contigs of many lengths, also of one base and of none.
#[test]
fn chunks_tile_every_contig() {
    let folder = tempfile::tempdir().unwrap();
    let genome = cistron_tests::fixture::bases(&Fixture::get().phix()).unwrap();
    let lengths = [1_500, 1, 0, 2, 256, 257, 700];
    let mut fasta = Vec::new();
    for (i, length) in lengths.into_iter().enumerate() {
        fasta.extend(format!(">c{i}\n").into_bytes());
        fasta.extend(&genome[..length]);
        fasta.push(b'\n');
    }
    let path = folder.path().join("contigs.fna");
    std::fs::write(&path, fasta).unwrap();
    for (name, tiling) in [
        ("linear", ""),
        ("circular", "--circular all"),
        ("small", "--tile 50 --context 60 --warm-up 7"),
    ] {
        let out = write(folder.path(), &path, name, tiling);
        let mut counted = Vec::new();
        for strand in ["fwd", "rev"] {
            for stage in ["stage1", "stage2"] {
                let bed = out.join(format!("{stage}.{strand}.chunks.bed.gz"));
                for (i, length) in lengths.into_iter().enumerate() {
                    let mut end = 0;
                    for (from, to) in chunks(&bed, &format!("c{i}")) {
                        assert_eq!(from, end, "{name}, {stage}, {strand}, c{i}");
                        assert!(to > from);
                        end = to;
                    }
                    assert_eq!(end, length, "{name}, {stage}, {strand}, c{i}");
                    let track = out.join(format!("{stage}.{strand}.boundary.bedGraph.gz"));
                    let probability = values(&track, &format!("c{i}"), length);
                    assert!(probability.iter().all(|p| (0.0..=1.0).contains(p)));
                }
                counted.push(lines(&bed).len() as u64);
            }
        }
        let summary = std::fs::read(out.join("summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        let stages = summary["stages"].as_array().unwrap();
        let said: Vec<u64> = stages
            .iter()
            .map(|stage| stage["chunks"].as_u64().unwrap())
            .collect();
        assert_eq!(said, counted, "{name}: summary.json");
    }
}

/// The reverse track of a sequence is the forward track of its reverse complement, backwards.
#[test]
fn the_reverse_strand_is_the_turned_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let genome = cistron_tests::fixture::bases(&Fixture::get().phix()).unwrap();
    let genome = &genome[..900];
    let complement = |base: &u8| match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        _ => b'A',
    };
    let turned: Vec<u8> = genome.iter().rev().map(complement).collect();
    let read = |name: &str, bases: &[u8], strand: &str| {
        let path = folder.path().join(format!("{name}.fna"));
        std::fs::write(&path, [b">c\n", bases, b"\n"].concat()).unwrap();
        let out = write(folder.path(), &path, name, "--formats bedgraph,bed");
        values(
            &out.join(format!("stage1.{strand}.boundary.bedGraph.gz")),
            "c",
            bases.len(),
        )
    };
    let reverse = read("as_it_is", genome, "rev");
    let mut forward = read("turned", &turned, "fwd");
    forward.reverse();
    assert_eq!(reverse, forward);
}
