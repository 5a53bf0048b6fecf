//! A run that is cut, in whatever way, and continued equals the run in one piece.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cistron_tests::binary::{Finished, cistron, finish};
use cistron_tests::fixture::Fixture;
use serde_json::Value;

/// Steps of every run. A run has to last long enough to be cut, so it must not be much faster.
const STEPS: u64 = 120;
/// How long a run may take to come to a place or to stop, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// The arguments of a run in the folder `out`.
fn arguments(out: &str, threads: &str) -> Vec<String> {
    let fixture = Fixture::get();
    let config = Fixture::config().display().to_string();
    let corpus = fixture.corpus().display().to_string();
    let mut arguments: Vec<String> = ["pretrain", "--threads", threads].map(String::from).into();
    arguments.extend(["--config".into(), config, "--corpus".into(), corpus]);
    arguments.extend(["--out".into(), out.into()]);
    // With what a checkpoint must hold besides weights: a running average and half steps.
    let steps = format!("schedule.steps={STEPS}");
    for set in [
        "data.length=64",
        "train.accumulate=2",
        "train.ema_decay=0.9",
        "train.log_every=5",
        "train.checkpoint_every=20",
        &steps,
    ] {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments
}

fn start(folder: &Path, more: &[&str]) -> Command {
    let mut command = cistron(folder, arguments("run", "1"));
    command.args(more);
    command
}

fn run(folder: &Path, more: &[&str]) -> Finished {
    finish(start(folder, more))
}

/// The run that nothing cut.
struct Whole {
    folder: tempfile::TempDir,
    model: Vec<u8>,
    losses: Vec<(u64, String)>,
}

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &["-q"]).expect(0);
        let model = model(folder.path());
        let losses = losses(folder.path());
        assert_eq!(losses.last().unwrap().0, STEPS);
        Whole {
            folder,
            model,
            losses,
        }
    })
}

fn model(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("run/model/model.safetensors")).unwrap()
}

/// Steps and losses of metrics.jsonl, the losses as text: every digit counts.
fn losses(folder: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line.get("loss").is_some())
        .map(|line| (line["step"].as_u64().unwrap(), line["loss"].to_string()))
        .collect()
}

/// Checks that the continued run of `folder` ended as the run in one piece.
#[track_caller]
fn assert_whole(folder: &Path) {
    assert_eq!(losses(folder), whole().losses);
    assert!(model(folder) == whole().model, "the final models differ");
    for file in ["optimizer.safetensors", "model.safetensors"] {
        let path = format!("run/checkpoints/step-{STEPS:08}/{file}");
        let read = |folder: &Path| std::fs::read(folder.join(&path)).unwrap();
        assert!(
            read(folder) == read(whole().folder.path()),
            "{file} differs"
        );
    }
}

/// Names in the folder of checkpoints, but for the final one.
fn checkpoints(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("run/checkpoints"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Starts a run and waits until `ready`.
fn start_and_wait(folder: &Path, ready: impl Fn() -> bool) -> Child {
    let mut child = start(folder, &[])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < PATIENCE, "the run does not get there");
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Whether the run of `folder` has logged a step.
fn has_logged(folder: &Path) -> impl Fn() -> bool + use<> {
    let path: PathBuf = folder.join("run/metrics.jsonl");
    move || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"loss\""))
}

/// Sends the signal during a run: it exits with `status` after a checkpoint, and goes on.
fn stops_and_continues(signal: &str, status: i32) {
    let folder = tempfile::tempdir().unwrap();
    let child = start_and_wait(folder.path(), has_logged(folder.path()));
    send(signal, &child);
    let stopped = Finished::from(child.wait_with_output().unwrap()).expect(status);
    assert!(
        stopped.stderr.contains("--resume auto"),
        "{}",
        stopped.stderr
    );
    let names = checkpoints(folder.path());
    let last: u64 = names.last().unwrap()["step-".len()..].parse().unwrap();
    assert!(last < STEPS, "cut before its end");
    assert!(
        !folder.path().join("run/model").exists(),
        "the run is not finished"
    );
    let continued = run(folder.path(), &["--resume", "auto"]).expect(0);
    assert!(
        continued.stderr.contains(&last.to_string()),
        "{}",
        continued.stderr
    );
    assert_whole(folder.path());
}

#[test]
fn steps_and_more_steps_equal_all_steps() {
    let folder = tempfile::tempdir().unwrap();
    let half = (STEPS / 2).to_string();
    run(folder.path(), &["--stop-after", &half]).expect(0);
    assert_eq!(losses(folder.path()).last().unwrap().0, STEPS / 2);
    run(folder.path(), &["--resume", "auto"]).expect(0);
    assert_whole(folder.path());
}

#[test]
fn another_seed_gives_another_model() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["--set", "train.seed=1"]).expect(0);
    assert!(model(folder.path()) != whole().model);
}

#[test]
fn ctrl_c_leaves_a_checkpoint() {
    stops_and_continues("-INT", 130);
}

#[test]
fn sigterm_leaves_a_checkpoint() {
    stops_and_continues("-TERM", 143);
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("run/checkpoints/step-00000020");
    let child = start_and_wait(folder.path(), || first.is_dir());
    send("-KILL", &child);
    Finished::from(child.wait_with_output().unwrap()).expect(128 + 9);
    run(folder.path(), &["--resume", "auto"]).expect(0);
    assert_whole(folder.path());
    let names = checkpoints(folder.path());
    assert!(
        names.iter().all(|name| name.starts_with("step-")),
        "{names:?}"
    );
    assert_eq!(names.len(), 3, "train.keep_last of them: {names:?}");
}

#[test]
fn threads_do_not_change_the_model() {
    let folder = tempfile::tempdir().unwrap();
    finish(cistron(folder.path(), arguments("run", "3"))).expect(0);
    assert_whole(folder.path());
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = run(folder.path(), &["--dry-run"]).expect(0);
    assert!(plan.text().contains("ema_decay = 0.9"), "{}", plan.text());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
