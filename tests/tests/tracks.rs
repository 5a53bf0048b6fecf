//! Tracks cover every base once, and no tile start shows in them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

/// Tracks of E. coli in tiles of 256 bases, in tiles four times as long, and without warm-up.
struct Tiles {
    _folder: tempfile::TempDir,
    short: PathBuf,
    long: PathBuf,
    cold: PathBuf,
}

/// Bases a short tile.
const TILE: usize = 256;
/// Bases from one short tile to the next.
const FRESH: usize = TILE / 2;

fn tiles() -> &'static Tiles {
    static TILES: OnceLock<Tiles> = OnceLock::new();
    TILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tiling: &str| {
            let formats = "--strand fwd --formats bedgraph,bed";
            let arguments = format!("{formats} {tiling}");
            write(folder.path(), &Fixture::get().ecoli(), name, &arguments)
        };
        Tiles {
            short: write("short", "--tile 256"),
            long: write("long", "--tile 1024 --warm-up 512"),
            cold: write("cold", "--tile 256 --warm-up 0"),
            _folder: folder,
        }
    })
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().sum::<f64>() / values.count() as f64
}

/// Mean of `marked` values, in standard errors from the mean of all.
fn outlying(all: &[f64], marked: impl Iterator<Item = usize> + Clone) -> f64 {
    let average = mean(all.iter().copied());
    let variance = mean(all.iter().map(|value| (value - average).powi(2)));
    let count = marked.clone().count() as f64;
    (mean(marked.map(|i| all[i])) - average) / (variance / count).sqrt()
}

/// Where the track passes from one short tile to the next. A tile starts half a tile earlier,
/// which is such a place too.
fn joins() -> impl Iterator<Item = usize> + Clone {
    (TILE..ECOLI).step_by(FRESH)
}

#[test]
fn no_tile_start_is_an_outlier() {
    // A chance of one in 100,000 to be so far off.
    const FAR: f64 = 4.5;
    for stage in ["stage1.fwd", "stage2.fwd"] {
        let path = tiles().short.join(format!("{stage}.boundary.bedGraph.gz"));
        let probability: Vec<f64> = values(&path, CONTIG, ECOLI)
            .into_iter()
            .map(f64::from)
            .collect();
        let off = outlying(&probability, joins());
        assert!(off.abs() < FAR, "{stage}: {off} standard errors");
        let mut starts = vec![0.0; ECOLI];
        let path = tiles().short.join(format!("{stage}.chunks.bed.gz"));
        for (start, _) in chunks(&path, CONTIG) {
            starts[start] = 1.0;
        }
        let off = outlying(&starts, joins());
        assert!(off.abs() < FAR, "{stage}: {off} standard errors");
    }
}

/// What is left of a tile's start after its warm-up: measured against the same places in
/// tiles without one, where the model has only seen its beginning token.
#[test]
fn values_do_not_depend_on_the_tiling() {
    for track in ["stage1.fwd.boundary", "information.fwd"] {
        let read =
            |folder: &Path| values(&folder.join(format!("{track}.bedGraph.gz")), CONTIG, ECOLI);
        let (short, long, cold) = (
            read(&tiles().short),
            read(&tiles().long),
            read(&tiles().cold),
        );
        let distance = |a: &[f32], b: &[f32], i: usize| f64::from((a[i] - b[i]).abs());
        let warm_joins = mean(joins().map(|i| distance(&short, &long, i)));
        let cold_joins = mean(
            (TILE..ECOLI)
                .step_by(TILE)
                .map(|i| distance(&cold, &long, i)),
        );
        assert!(
            cold_joins > 0.02,
            "{track}: the measure sees tile starts: {cold_joins}"
        );
        assert!(
            warm_joins < cold_joins / 20.0,
            "{track}: {warm_joins} and {cold_joins}"
        );
        let everywhere = mean((0..ECOLI).map(|i| distance(&short, &long, i)));
        assert!(
            everywhere < cold_joins / 20.0,
            "{track}: {everywhere} and {cold_joins}"
        );
        // The first tile reads the same bases from the same start.
        let first = (0..TILE)
            .map(|i| distance(&short, &long, i))
            .fold(0.0, f64::max);
        assert!(first < 1e-5, "{track}: {first}");
    }
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
        ("small", "--tile 50"),
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
