//! What the tests of this crate share: a tiny model and a tiny corpus.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};

use cistron_genome::corpus::CorpusBuilder;
use cistron_model::{Config, HNet};
use tch::{Device, Kind, Tensor};

use crate::TrainError;
use crate::collective::{Collective, Exchange, Pending};

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

/// Ranks that are threads of one process.
#[derive(Debug)]
struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: usize,
    barrier: Barrier,
    values: Mutex<Vec<Vec<f64>>>,
}

/// Runs `work` on as many threads as there are ranks; returns what each gave.
pub fn on_ranks<T: Send>(world: usize, work: impl Fn(Arc<dyn Collective>) -> T + Sync) -> Vec<T> {
    let shared = Arc::new(Shared {
        world,
        barrier: Barrier::new(world),
        values: Mutex::new(vec![Vec::new(); world]),
    });
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..world)
            .map(|rank| {
                let shared = Arc::clone(&shared);
                let work = &work;
                scope.spawn(move || work(Arc::new(Thread { rank, shared })))
            })
            .collect();
        ranks
            .into_iter()
            .map(|rank| rank.join().expect("no rank panics"))
            .collect()
    })
}

impl Collective for Thread {
    fn rank(&self) -> u64 {
        self.rank as u64
    }

    fn world(&self) -> u64 {
        self.shared.world as u64
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, TrainError> {
        let Shared {
            world,
            barrier,
            values,
        } = &*self.shared;
        let mine = Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).expect("a flat tensor");
        let part = mine.len() / world;
        assert!(exchange == Exchange::Sum || mine.len() % world == 0);
        let lengths: Vec<usize> = {
            let mut all = values.lock().expect("no rank panics");
            all[self.rank] = mine;
            all.iter().map(Vec::len).collect()
        };
        barrier.wait();
        let result: Vec<f64> = {
            let all = values.lock().expect("no rank panics");
            let same = all.iter().all(|values| values.len() == all[0].len());
            assert!(same, "ranks exchange different tensors: {lengths:?}");
            let sum = |i: usize| all.iter().map(|values| values[i]).sum();
            match exchange {
                Exchange::Sum => (0..all[0].len()).map(sum).collect(),
                Exchange::SumParts => (self.rank * part..(self.rank + 1) * part)
                    .map(sum)
                    .collect(),
                Exchange::Gather => (0..all[0].len()).map(|i| all[i / part][i]).collect(),
            }
        };
        barrier.wait();
        let result = Tensor::from_slice(&result).to_kind(tensor.kind());
        let start = match exchange {
            Exchange::SumParts => (self.rank * part) as i64,
            _ => 0,
        };
        let mut target = tensor.narrow(0, start, result.numel() as i64);
        target.copy_(&result);
        Ok(Pending::done())
    }

    fn finish(&self) -> Result<(), TrainError> {
        self.shared.barrier.wait();
        Ok(())
    }
}
