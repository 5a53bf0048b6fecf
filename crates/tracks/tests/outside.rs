//! `pyBigWig` and `tabix` must read what this crate writes.
//!
//! `CISTRON_PYTHON` names a Python with pyBigWig; without it, `python3` is tried.

use std::path::Path;
use std::process::Command;

use cistron_genome::coord::{Interval, Strand};
use cistron_tracks::{Chunk, ContigSize, bed, bedgraph, bigwig};

/// Prints each contig's name and length, whether its values equal the next ones of the raw
/// `f32` file bit for bit, and whether the whole-contig mean of the zoom data is right.
const READ_BIGWIG: &str = r#"
import struct, sys, pyBigWig
bw = pyBigWig.open(sys.argv[1])
assert bw.isBigWig()
raw = open(sys.argv[2], "rb")
for name, length in bw.chroms().items():
    expected = raw.read(4 * length)
    got = struct.pack(f"<{length}f", *bw.values(name, 0, length))
    values = struct.unpack(f"<{length}f", expected)
    mean = sum(values) / length
    assert abs(bw.stats(name)[0] - mean) < 1e-4, (name, bw.stats(name), mean)
    last = bw.values(name, length - 1, length)
    print(name, length, got == expected and struct.pack("<f", *last) == expected[-4:])
assert not raw.read(1)
"#;

type Contig = (String, Vec<f32>);

/// A contig with runs, tiny and negative values.
fn contig(name: &str, length: usize) -> Contig {
    let value = |i: usize| match i % 100 {
        0..50 => ((i as f32) * 0.618).fract(),
        50..80 => (i / 1000) as f32,
        _ => -1e-7 * i as f32,
    };
    (name.to_owned(), (0..length).map(value).collect())
}

fn genomes() -> Vec<(&'static str, Vec<Contig>)> {
    let named = |names: &[(&str, usize)]| names.iter().map(|&(n, l)| contig(n, l)).collect();
    vec![
        ("5kb", named(&[("NC_001422.1", 5_386)])),
        ("chromosome", named(&[("NC_000913.3", 4_641_652)])),
        (
            "draft",
            (0..120)
                .rev()
                .map(|i| contig(&format!("NODE_{i}_length"), 200 + i * 17))
                .collect(),
        ),
        (
            "seven-replicons",
            named(&[
                ("chr2", 30_000),
                ("chr1", 90_000),
                ("pC", 4_000),
                ("pA", 12_345),
                ("pB", 1_000),
                ("p10", 159),
                ("p9", 161),
            ]),
        ),
        ("empty-contig", named(&[("z", 10), ("none", 0), ("a", 300)])),
        ("single-base", named(&[("one", 1)])),
    ]
}

fn sizes(contigs: &[Contig]) -> Vec<ContigSize> {
    let size = |(name, values): &Contig| ContigSize::new(name.as_str(), values.len() as u64);
    contigs.iter().map(size).collect()
}

/// Standard output of a tool, or nothing, with a message, when it is not there.
fn run(tool: &str, arguments: &[&str], folder: &Path) -> Option<String> {
    let started = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output();
    let Ok(output) = started else {
        eprintln!("SKIPPED: {tool} is not installed; the check with it was not made");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("No module named 'pyBigWig'") {
        eprintln!("SKIPPED: {tool} has no pyBigWig; the check with it was not made");
        return None;
    }
    assert!(
        output.status.success() && errors.is_empty(),
        "{tool} {arguments:?}: {errors}"
    );
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn pybigwig_reads_the_same_values() {
    let python = std::env::var("CISTRON_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for (name, mut contigs) in genomes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        let pieces = contigs
            .iter()
            .flat_map(|(name, values)| values.chunks(65_537).map(move |piece| (name, piece)));
        bigwig::write(&path, &sizes(&contigs), pieces).unwrap();
        contigs.retain(|c| !c.1.is_empty());
        contigs.sort_by(|a, b| a.0.cmp(&b.0));
        let raw: Vec<u8> = contigs
            .iter()
            .flat_map(|c| c.1.iter().flat_map(|v| v.to_le_bytes()))
            .collect();
        std::fs::write(folder.path().join("raw"), raw).unwrap();
        let Some(report) = run(&python, &["-c", READ_BIGWIG, "x.bw", "raw"], folder.path()) else {
            return;
        };
        let expected: String = contigs
            .iter()
            .map(|(name, values)| format!("{name} {} True\n", values.len()))
            .collect();
        assert_eq!(report, expected, "{name}");
    }
}

#[test]
fn tabix_finds_the_ends_of_contigs_in_bedgraph() {
    for (name, contigs) in genomes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bedGraph.gz");
        let mut writer = bedgraph::Writer::create(&path, &sizes(&contigs)).unwrap();
        for (contig, values) in &contigs {
            writer.push(contig, values).unwrap();
        }
        writer.finish().unwrap();
        let query = |region: &str| run("tabix", &["x.bedGraph.gz", region], folder.path());
        for (contig, values) in contigs.iter().filter(|c| !c.1.is_empty()) {
            let n = values.len();
            for at in [0, n / 2, n - 1] {
                let Some(line) = query(&format!("{contig}:{}-{}", at + 1, at + 1)) else {
                    return;
                };
                let fields: Vec<&str> = line.trim_end().split('\t').collect();
                let number = |i: usize| fields[i].parse::<usize>().unwrap();
                assert_eq!((fields.len(), fields[0]), (4, contig.as_str()), "{name}");
                assert!((number(1)..number(2)).contains(&at), "{name}: {line}");
                let value: f32 = fields[3].parse().unwrap();
                assert_eq!(value.to_bits(), values[at].to_bits(), "{name}: {line}");
            }
            assert_eq!(query(&format!("{contig}:{}", n + 1)).unwrap(), "", "{name}");
        }
        let listed = run("tabix", &["-l", "x.bedGraph.gz"], folder.path()).unwrap();
        let names: Vec<&str> = contigs
            .iter()
            .filter(|c| !c.1.is_empty())
            .map(|c| c.0.as_str())
            .collect();
        assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    }
}

#[test]
fn tabix_finds_the_ends_of_contigs_in_bed() {
    for (name, contigs) in genomes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bed.gz");
        let mut writer = bed::Writer::create(&path, &sizes(&contigs), 1, Strand::Forward).unwrap();
        for (contig, values) in &contigs {
            let length = values.len() as u64;
            let mut start = 0;
            while start < length {
                let end = (start + 1 + start % 9).min(length);
                let chunk = Chunk {
                    interval: Interval::new(start, end).unwrap(),
                    probability: 0.5,
                };
                writer.push(contig, chunk).unwrap();
                start = end;
            }
        }
        writer.finish().unwrap();
        let query = |region: &str| run("tabix", &["x.bed.gz", region], folder.path());
        for (contig, values) in contigs.iter().filter(|c| !c.1.is_empty()) {
            let n = values.len();
            let Some(first) = query(&format!("{contig}:1-1")) else {
                return;
            };
            assert_eq!(
                first,
                format!("{contig}\t0\t1\ts1:000001\t500\t+\t0\t1\t0,114,178\n"),
                "{name}"
            );
            let last = query(&format!("{contig}:{n}-{n}")).unwrap();
            assert_eq!(last.lines().count(), 1, "{name}");
            assert_eq!(last.split('\t').nth(2), Some(n.to_string().as_str()));
            assert_eq!(query(&format!("{contig}:{}", n + 1)).unwrap(), "");
        }
    }
}
