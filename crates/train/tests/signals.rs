//! SIGTERM to a running training: a checkpoint, and an outcome that says so.
//!
//! Signals concern the whole process, so this test has one for itself.
#![cfg(unix)]

use std::time::Duration;

use cistron_genome::corpus::CorpusBuilder;
use cistron_train::{Outcome, PretrainOptions, Resume, pretrain};
use signal_hook::consts::SIGTERM;

const CONFIG: &str = r#"
[model]
arch_layout = ["m1", ["T1"], "m1"]
d_model = [16, 32]
d_intermediate = [0, 64]
vocab_size = 8
ssm_cfg = { d_state = 8, headdim = 8 }
attn_cfg = { num_heads = 2, rotary_emb_dim = 8, window_size = -1 }
[data]
length = 64
batch = 2
[schedule]
steps = 1000000
"#;

#[test]
fn sigterm_leaves_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.fna"), format!(">a\n{}\n", "ACGGT".repeat(200))).expect("written");
    std::fs::write(at("run.toml"), CONFIG).expect("written");
    CorpusBuilder::new()
        .fasta(at("a.fna"))
        .build(&at("corpus"))
        .expect("a corpus");
    let options = PretrainOptions {
        config: at("run.toml"),
        sets: Vec::new(),
        corpus: at("corpus"),
        out: at("run"),
        resume: Resume::Never,
        force: false,
        device: tch::Device::Cpu,
        quiet: true,
        command: "cistron pretrain".into(),
        stop_after: None,
    };
    let metrics = at("run/metrics.jsonl");
    let killer = std::thread::spawn(move || {
        // The handlers are there once a step is written.
        while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        signal_hook::low_level::raise(SIGTERM).expect("raised");
    });
    let outcome = pretrain(&options).expect("a run");
    killer.join().expect("the signal was sent");
    let Outcome::Interrupted { step, signal: 15 } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(outcome.exit_code(), 143);
    let checkpoint = at("run/checkpoints").join(format!("step-{step:08}"));
    assert!(checkpoint.join("state.json").is_file());
}
