//! What the tests of this crate share: a tiny model and a tiny corpus.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cistron_genome::corpus::CorpusBuilder;
use cistron_model::{Config, HNet};
use tch::Device;

/// Learning-rate multiplier of the outer stage of the tiny model; the inner has 1.
pub const OUTER_RATE: f64 = 2.0;

/// Run configuration of a two-stage model that takes milliseconds a step.
pub const TINY: &str = r#"
[model]
arch_layout = ["m1", ["T1"], "m1"]
d_model = [16, 32]
d_intermediate = [0, 64]
vocab_size = 8
ssm_cfg = { d_state = 8, headdim = 8 }
attn_cfg = { num_heads = 2, rotary_emb_dim = 8, window_size = -1 }
[model.cistron]
ratio = [3]
alpha = 0.02
lr_multipliers = [2, 1]
[data]
length = 48
batch = 2
[optimizer]
lr = 3e-3
[schedule]
steps = 8
warmup_steps = 2
[train]
log_every = 1
eval_every = 4
eval_tokens = 96
checkpoint_every = 2
keep_last = 2
"#;

/// The model of [`TINY`].
pub fn model(seed: u64) -> HNet {
    HNet::new(&config(), seed, Device::Cpu).expect("a valid model")
}

/// Its configuration.
pub fn config() -> Config {
    crate::config::RunConfig::parse(TINY, Path::new("tiny.toml"), &[])
        .expect("a valid configuration")
        .model
}

/// A corpus of a training genome with three contigs, one of them short, and a
/// validation genome, in `folder/corpus`.
pub fn corpus(folder: &Path) -> PathBuf {
    let write = |name: &str, contigs: &[(&str, usize)]| -> PathBuf {
        let mut text = String::new();
        for (contig, length) in contigs {
            let bases = bases(*length, contig.len() as u64 + *length as u64);
            writeln!(text, ">{contig}\n{bases}").expect("writing to a string");
        }
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    let train = write(
        "train.fna",
        &[("chromosome", 900), ("plasmid", 300), ("scrap", 20)],
    );
    let held = write("held.fna", &[("chromosome", 400)]);
    let out = folder.join("corpus");
    CorpusBuilder::new()
        .fasta(train)
        .fasta(held)
        .validation(["held"])
        .build(&out)
        .expect("a corpus");
    out
}

/// Codon-periodic bases with an N now and then.
fn bases(length: usize, seed: u64) -> String {
    let mut state = seed;
    (0..length)
        .map(|i| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match (i % 3, state >> 33) {
                (_, x) if x % 97 == 0 => 'N',
                (0, _) => 'A',
                (1, x) => ['C', 'G'][(x % 2) as usize],
                (_, x) => ['A', 'C', 'G', 'T'][(x % 4) as usize],
            }
        })
        .collect()
}
