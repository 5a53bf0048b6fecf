//! A run that is killed at random moments always continues, and comes to the same end.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cistron_tests::binary::{Finished, cistron, finish};
use cistron_tests::fixture::Fixture;
use serde_json::Value;

/// Steps of the run.
const STEPS: u64 = 150;

/// A run with all that a checkpoint must hold: averaged weights, half steps, carried states.
fn arguments(method: &str) -> Vec<String> {
    let config = Fixture::config().display().to_string();
    let corpus = Fixture::get().corpus().display().to_string();
    let mut arguments: Vec<String> = ["pretrain", "-q", "--threads", "1", "--resume", "auto"]
        .map(String::from)
        .into();
    arguments.extend(["--config".into(), config, "--corpus".into(), corpus]);
    arguments.extend(["--out".into(), "run".into()]);
    for set in [
        "data.length=64",
        "train.accumulate=2",
        "train.ema_decay=0.9",
        "train.checkpoint_every=7",
        "long_range.windows=5",
        &format!("long_range.method={method}"),
        &format!("schedule.steps={STEPS}"),
    ] {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments
}

/// What a finished run came to: its losses with every digit, and the bytes of its model.
fn outcome(folder: &Path) -> (Vec<String>, Vec<u8>) {
    let text = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let losses = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| {
            format!(
                "{} {} {} {} {}",
                line["kind"], line["step"], line["loss"], line["bits_per_base"], line["grad_norm"]
            )
        })
        .collect();
    let model = std::fs::read(folder.join("run/model/model.safetensors")).unwrap();
    (losses, model)
}

/// Seconds between none and `most`, from the clock's last digits.
fn random(most: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mixed = u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    most.mul_f64(mixed as f64 / f64::from(1u32 << 31))
}

fn killed(kills: usize, method: &str) {
    let whole = tempfile::tempdir().unwrap();
    let started = Instant::now();
    finish(cistron(whole.path(), arguments(method))).expect(0);
    let took = started.elapsed();
    let expected = outcome(whole.path());
    assert!(expected.0.len() as u64 > STEPS);

    let mut folder = tempfile::tempdir().unwrap();
    let (mut done, mut resumed) = (0, 0);
    while done < kills {
        let mut child = cistron(folder.path(), arguments(method))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(random(took / 2));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            Finished::from(child.wait_with_output().unwrap()).expect(128 + 9);
            done += 1;
            resumed += usize::from(folder.path().join("run/latest").is_file());
            continue;
        }
        // It was faster than its killer: another one is begun.
        Finished::from(child.wait_with_output().unwrap()).expect(0);
        assert!(outcome(folder.path()) == expected, "the outcome differs");
        folder = tempfile::tempdir().unwrap();
    }
    finish(cistron(folder.path(), arguments(method))).expect(0);
    let found = outcome(folder.path());
    assert_eq!(found.0, expected.0);
    assert!(found.1 == expected.1, "the models differ");
    assert!(
        kills < 10 || resumed > kills / 4,
        "kills came before the first checkpoint: {resumed} of {kills} after"
    );
}

#[test]
fn a_few_kills_change_nothing() {
    killed(3, "tbptt");
}

/// `cargo test -p cistron-tests --test kills -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn twenty_kills_change_nothing() {
    killed(20, "tbptt");
    killed(20, "fitted_noise");
}
