//! Several ranks on the CPU, started with mpirun: a run on two is the run on one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cistron_tests::binary::{Finished, cistron, finish, program};
use cistron_tests::fixture::Fixture;
use serde_json::Value;

/// Whether the binary has MPI and the machine an mpirun; says so where not.
fn can_run() -> bool {
    let there = Command::new("mpirun").arg("--version").output().is_ok();
    if cfg!(feature = "mpi") && there {
        return true;
    }
    eprintln!("SKIPPED: ranks need Open MPI and --features mpi, see scripts/features.sh");
    false
}

/// `cistron pretrain` with these settings, writing to `run`.
fn arguments(sets: &[&str]) -> Vec<String> {
    let config = Fixture::config().display().to_string();
    let corpus = Fixture::get().corpus().display().to_string();
    let mut arguments: Vec<String> = ["pretrain", "--threads", "1", "--device", "cpu"]
        .map(String::from)
        .into();
    arguments.extend(["--config".into(), config, "--corpus".into(), corpus]);
    arguments.extend(["--out".into(), "run".into()]);
    for set in ["data.length=64", "train.log_every=1"].iter().chain(sets) {
        arguments.extend(["--set".into(), (*set).into()]);
    }
    arguments
}

fn alone(folder: &Path, sets: &[&str], more: &[&str]) -> Finished {
    let mut command = cistron(folder, arguments(sets));
    command.args(more);
    finish(command)
}

/// The same on two ranks.
fn two(folder: &Path, sets: &[&str], more: &[&str]) -> Command {
    let mut command = program("mpirun", folder);
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .args(["--oversubscribe", "--bind-to", "none", "-n", "2"])
        .arg(cistron_tests::binary::path())
        .args(arguments(sets))
        .args(more);
    command
}

/// Loss and bits a base of every step and evaluation.
fn curve(folder: &Path) -> Vec<(u64, f64)> {
    let text = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| {
            let value = line.get("loss").unwrap_or(&line["bits_per_base"]);
            (line["step"].as_u64().unwrap(), value.as_f64().unwrap())
        })
        .collect()
}

#[track_caller]
fn same(a: &[(u64, f64)], b: &[(u64, f64)]) {
    assert_eq!(a.len(), b.len());
    for (one, two) in a.iter().zip(b) {
        assert_eq!(one.0, two.0);
        assert!((one.1 - two.1).abs() < 5e-4, "{one:?} {two:?}");
    }
}

#[test]
fn two_ranks_are_one_with_twice_the_batch() {
    if !can_run() {
        return;
    }
    let (one, both) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let steps = "schedule.steps=12";
    alone(one.path(), &["data.batch=4", steps], &[]).expect(0);
    let finished = finish(two(both.path(), &["data.batch=2", steps], &[])).expect(0);
    same(&curve(one.path()), &curve(both.path()));
    // Rank 0 alone speaks.
    let first = |line: &&str| line.contains("on 2 ranks");
    assert_eq!(
        finished.stderr.lines().filter(first).count(),
        1,
        "{}",
        finished.stderr
    );
    assert!(both.path().join("run/model/model.safetensors").is_file());
}

#[test]
fn a_sharded_run_of_two_goes_on_alone() {
    if !can_run() {
        return;
    }
    let (one, both) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sets = [
        "schedule.steps=12",
        "train.global_batch=8",
        "data.batch=2",
        "train.zero=true",
        // Statistics of the ratio loss are over the batches that ranks have at once.
        "model.cistron.alpha=0",
    ];
    alone(one.path(), &sets, &[]).expect(0);
    finish(two(both.path(), &sets, &["--stop-after", "6"])).expect(0);
    alone(both.path(), &sets, &["--resume", "auto"]).expect(0);
    same(&curve(one.path()), &curve(both.path()));
}

/// The process that is rank 1 of a run in `folder`.
fn rank_1(folder: &Path) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let rank = variables.any(|variable| variable == b"OMPI_COMM_WORLD_RANK=1");
        let here = std::fs::read_link(entry.path().join("cwd")).ok()? == folder;
        (rank && here).then_some(pid)
    })
}

#[test]
fn a_rank_that_is_killed_ends_the_others() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let sets = [
        "data.batch=2",
        "schedule.steps=1000000",
        "train.checkpoint_every=5",
    ];
    let mut run = two(&path, &sets, &[]);
    run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let patience = Duration::from_secs(100);
    let child = run.spawn().unwrap();
    let victim = loop {
        if path.join("run/latest").is_file()
            && let Some(pid) = rank_1(&path)
        {
            break pid;
        }
        assert!(started.elapsed() < patience, "no checkpoint yet");
        std::thread::sleep(Duration::from_millis(100));
    };
    let killed = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-9", &victim.to_string()])
            .status()
            .unwrap()
            .success()
    );
    let finished = Finished::from(child.wait_with_output().unwrap());
    assert!(killed.elapsed() < Duration::from_secs(60));
    assert_ne!(finished.status, 0);
    assert!(finished.stderr.contains("rank 1"), "{}", finished.stderr);
    // What was saved is whole.
    let steps = format!("schedule.steps={}", 1 + curve(&path).last().unwrap().0);
    alone(&path, &["data.batch=4", &steps], &["--resume", "auto"]).expect(0);
}
