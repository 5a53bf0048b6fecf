//! A whole run: from the options of the command to the finished run folder.

use std::path::PathBuf;
use std::sync::Arc;

use cistron_genome::corpus::Corpus;
use cistron_model::Precision;
use tch::Device;

use crate::collective::{self, Collective, Seat};
use crate::config::RunConfig;
use crate::folder::RunFolder;
use crate::loader::Loader;
use crate::resume::Resume;
use crate::run::Run;
use crate::trainer::Trainer;
use crate::{TrainError, checkpoint, signals};

/// What `cistron pretrain` is asked for.
#[derive(Debug, Clone)]
pub struct PretrainOptions {
    /// The run configuration.
    pub config: PathBuf,
    /// `key=value` arguments over it, in order.
    pub sets: Vec<String>,
    /// The corpus folder.
    pub corpus: PathBuf,
    /// The run folder.
    pub out: PathBuf,
    /// What to do with earlier training.
    pub resume: Resume,
    /// Whether an existing run is replaced.
    pub force: bool,
    /// Where to train.
    pub device: Device,
    /// No progress bar.
    pub quiet: bool,
    /// The command line, for `command.txt`.
    pub command: String,
    /// Steps to take in this call before it pauses with a checkpoint; none for no pause.
    pub stop_after: Option<u64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are taken, or the time is up; `model/` is written.
    Finished {
        /// Steps taken in all.
        step: u64,
    },
    /// [`PretrainOptions::stop_after`] steps are taken; a checkpoint is written.
    Paused {
        /// Steps taken in all.
        step: u64,
    },
    /// A signal came; a checkpoint is written.
    Interrupted {
        /// Steps taken in all.
        step: u64,
        /// Its number: 2 for Ctrl-C, 15 for SIGTERM.
        signal: i32,
    },
}

impl Outcome {
    /// The exit code of the command: 0, or 128 and the signal.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Finished { .. } | Self::Paused { .. } => 0,
            Self::Interrupted { signal, .. } => 128 + signal,
        }
    }
}

/// Trains a model as configured, or continues to.
///
/// Ctrl-C and SIGTERM end it after the step at hand with a checkpoint; a second one ends
/// the process at once. Log lines go to `tracing` at level `info`.
///
/// Where the environment says that this process is one of several ranks ([`Seat`]), it
/// trains together with the others, on its own GPU or over MPI; rank 0 writes and speaks.
///
/// # Errors
///
/// See [`TrainError`]. Complete checkpoints stay intact whatever happens.
pub fn pretrain(options: &PretrainOptions) -> Result<Outcome, TrainError> {
    signals::install().map_err(|error| TrainError::io(&options.out, error))?;
    let Some(seat) = Seat::from_environment()? else {
        let group = collective::join(None, options.device)?;
        return run(options, &group, &signals::pending);
    };
    let run = || {
        let options = PretrainOptions {
            device: seat.device(options.device)?,
            ..options.clone()
        };
        // What is wrong with the configuration is said before ranks wait for each other.
        RunConfig::load(&options.config, &options.sets)?.among(seat.world)?;
        let group = collective::join(Some(&seat), options.device)?;
        let result = run(&options, &group, &signals::pending);
        if let Ok(_) | Err(TrainError::Unstable { .. }) = result {
            group.finish()?;
        }
        result
    };
    run().map_err(|error| match seat.rank {
        0 => error,
        rank => error.on(rank),
    })
}

/// Finds the run folder and where it continues: rank 0 does, and tells the others.
fn prepare(
    options: &PretrainOptions,
    group: &dyn Collective,
) -> Result<(RunFolder, Option<PathBuf>), TrainError> {
    let (folder, from) = match group.rank() {
        0 => RunFolder::prepare(&options.out, &options.resume, options.force)?,
        _ => (RunFolder::at(&options.out), None),
    };
    if group.world() == 1 {
        return Ok((folder, from));
    }
    let mine = from.map(|path| path.to_string_lossy().into_owned());
    let from = group.share(&mine.unwrap_or_default())?;
    Ok((folder, (!from.is_empty()).then(|| from.into())))
}

fn run(
    options: &PretrainOptions,
    group: &Arc<dyn Collective>,
    stop: &dyn Fn() -> Option<i32>,
) -> Result<Outcome, TrainError> {
    let config = RunConfig::load(&options.config, &options.sets)?
        .among(group.world())?
        .on(options.device);
    // In bf16 the few fp32 products have inputs that came from bf16.
    let precision = config.train.precision.on(options.device);
    cistron_kernels::runtime::allow_tf32(precision == Precision::Bf16);
    let corpus = Corpus::open(&options.corpus)?;
    let (alphabet, seed) = (config.model.alphabet(), config.train.seed);
    let loader = Loader::new(&corpus, &config.data, alphabet, seed, options.device)?
        .with_chunks_of(&config.model)?
        .with_long_range(&config.long_range)
        .reading_ahead(config.train.accumulate as usize);
    let (folder, from) = prepare(options, &**group)?;
    let mut trainer = match &from {
        Some(path) => checkpoint::load(path, &config, options.device)?,
        None => Trainer::new(&config, options.device)?,
    };
    trainer.join(Arc::clone(group), true)?;
    let mut run = Run::start(options, &folder, &loader, trainer, from)?;
    let first = run.trainer.counts.step;
    while run.trainer.progress() < 1.0 {
        let signal = run.step(stop)?;
        let counts = run.trainer.counts;
        let over = run.trainer.progress() >= 1.0;
        let paused = options
            .stop_after
            .is_some_and(|steps| counts.step - first >= steps);
        if signal.is_none() && !over && due(config.train.eval_every, counts.step) {
            run.evaluate()?;
        }
        let leaving = signal.is_some() || (paused && !over);
        if leaving || (!over && due(config.train.checkpoint_every, counts.step)) {
            run.checkpoint()?;
        }
        if let Some(signal) = signal {
            run.leave("interrupted");
            return Ok(Outcome::Interrupted {
                step: counts.step,
                signal,
            });
        }
        if leaving {
            run.leave("paused");
            return Ok(Outcome::Paused { step: counts.step });
        }
    }
    run.finish(&corpus)?;
    Ok(Outcome::Finished {
        step: run.trainer.counts.step,
    })
}

/// Whether `step` is one of every `every`; none is when that is 0.
pub(crate) fn due(every: u64, step: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::path::Path;

    use cistron_model::checkpoint::TensorFile;
    use tch::Kind;

    use super::*;
    use crate::collective::Alone;
    use crate::metrics::{self, Record};
    use crate::testing;

    struct Bench {
        folder: tempfile::TempDir,
        options: PretrainOptions,
    }

    impl Bench {
        fn new(sets: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = folder.path().join("tiny.toml");
            fs::write(&config, testing::TINY).unwrap();
            let options = PretrainOptions {
                config,
                sets: sets.iter().map(ToString::to_string).collect(),
                corpus: testing::corpus(folder.path()),
                out: folder.path().join("run"),
                resume: Resume::Never,
                force: false,
                device: Device::Cpu,
                quiet: true,
                command: "cistron pretrain".into(),
                stop_after: None,
            };
            Self { folder, options }
        }

        fn to(&self, out: &str) -> PretrainOptions {
            PretrainOptions {
                out: self.folder.path().join(out),
                ..self.options.clone()
            }
        }
    }

    fn go(options: &PretrainOptions) -> Result<Outcome, TrainError> {
        run(options, &Alone::group(), &|| None)
    }

    fn steps(run: &Path) -> Vec<(u64, bool, f64)> {
        metrics::read(&run.join("metrics.jsonl"))
            .unwrap()
            .iter()
            .map(|record| match record {
                Record::Train(record) => (record.step, false, record.loss),
                Record::Eval(record) => (record.step, true, record.bits_per_base),
            })
            .collect()
    }

    /// The header is a map without an order; the tensors must agree bit for bit.
    fn same_tensors(a: &Path, b: &Path) {
        let (a, b) = (TensorFile::open(a).unwrap(), TensorFile::open(b).unwrap());
        assert_eq!(a.metadata(), b.metadata());
        let names = |file: &TensorFile| {
            let mut names = file.names();
            names.sort();
            names
        };
        assert_eq!(names(&a), names(&b));
        for name in a.names() {
            let bits = |file: &TensorFile| file.tensor(&name).unwrap().view_dtype(Kind::Int);
            assert_eq!(bits(&a), bits(&b), "{name}");
        }
    }

    /// All that must not depend on where a run was cut.
    fn same(a: &Path, b: &Path) {
        for name in [
            "checkpoints/step-00000008/model.safetensors",
            "checkpoints/step-00000008/config.json",
            "checkpoints/step-00000008/optimizer.safetensors",
            "checkpoints/step-00000008/ema.safetensors",
            "model/model.safetensors",
            "model/config.json",
            "model/README.md",
            "config.toml",
            "latest",
        ] {
            if name.ends_with(".safetensors") {
                same_tensors(&a.join(name), &b.join(name));
                continue;
            }
            let read = |run: &Path| fs::read(run.join(name)).expect(name);
            assert!(read(a) == read(b), "{name} differs");
        }
        assert_eq!(steps(a), steps(b));
    }

    #[test]
    fn a_run_cut_anywhere_is_the_run_in_one_piece_bit_for_bit() {
        let bench = Bench::new(&["train.ema_decay=0.9", "train.accumulate=2"]);
        let whole = bench.to("whole");
        assert_eq!(go(&whole).unwrap(), Outcome::Finished { step: 8 });

        let mut halves = bench.to("halves");
        halves.stop_after = Some(4);
        assert_eq!(go(&halves).unwrap(), Outcome::Paused { step: 4 });
        halves.resume = Resume::Auto;
        halves.stop_after = None;
        assert_eq!(go(&halves).unwrap(), Outcome::Finished { step: 8 });
        same(&whole.out, &halves.out);

        // Cut after a checkpoint and two further steps, as a crash would: those are taken again.
        let crashed = bench.to("crashed");
        go(&crashed).unwrap();
        let checkpoints = crashed.out.join("checkpoints");
        fs::remove_dir_all(checkpoints.join("step-00000008")).unwrap();
        fs::write(crashed.out.join("latest"), "checkpoints/step-00000006\n").unwrap();
        let resumed = PretrainOptions {
            resume: Resume::Auto,
            ..crashed
        };
        assert_eq!(go(&resumed).unwrap(), Outcome::Finished { step: 8 });
        same(&whole.out, &resumed.out);
    }

    /// Mamba-3 blocks train, and a cut run of them is the whole one.
    #[test]
    fn mamba3_learns_and_resumes_bit_for_bit() {
        let bench = Bench::new(&[
            r#"model.arch_layout=["b1r1",["R1"],"b1"]"#,
            "model.ssm_cfg.d_state=8",
            "model.cistron.mamba3.rank=2",
            "schedule.steps=40",
            "optimizer.lr=1e-2",
            "train.eval_every=40",
            "train.checkpoint_every=20",
        ]);
        let whole = bench.to("whole");
        assert_eq!(go(&whole).unwrap(), Outcome::Finished { step: 40 });
        let losses: Vec<f64> = metrics::read(&whole.out.join("metrics.jsonl"))
            .unwrap()
            .iter()
            .filter_map(|record| match record {
                Record::Train(record) => Some(record.bits_per_base),
                Record::Eval(_) => None,
            })
            .collect();
        let mean = |steps: &[f64]| steps.iter().sum::<f64>() / steps.len() as f64;
        let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
        assert!(last < first - 0.3, "{first} {last}");

        let mut halves = bench.to("halves");
        halves.stop_after = Some(20);
        assert_eq!(go(&halves).unwrap(), Outcome::Paused { step: 20 });
        halves.resume = Resume::Auto;
        halves.stop_after = None;
        assert_eq!(go(&halves).unwrap(), Outcome::Finished { step: 40 });
        let model = |out: &Path| out.join("model/model.safetensors");
        same_tensors(&model(&whole.out), &model(&halves.out));
    }

    #[test]
    fn carried_states_survive_a_cut_bit_for_bit() {
        let mut losses = Vec::new();
        for method in ["none", "noise", "fitted_noise", "state_passing", "tbptt"] {
            let method = format!("long_range.method={method}");
            let sets = ["train.accumulate=2", "long_range.windows=3", &method];
            let bench = Bench::new(&sets);
            let whole = bench.to("whole");
            go(&whole).unwrap();
            let mut halves = bench.to("halves");
            halves.stop_after = Some(5);
            go(&halves).unwrap();
            halves.resume = Resume::Auto;
            halves.stop_after = None;
            go(&halves).unwrap();
            assert_eq!(steps(&whole.out), steps(&halves.out), "{method}");
            let model = "model/model.safetensors";
            same_tensors(&whole.out.join(model), &halves.out.join(model));
            losses.push(format!("{:?}", steps(&whole.out)));
        }
        losses.sort();
        losses.dedup();
        assert_eq!(losses.len(), 5, "methods differ");
    }

    #[test]
    fn an_unstable_step_names_the_tensor_and_the_last_checkpoint() {
        let bench = Bench::new(&[
            "optimizer.lr=1e30",
            "optimizer.clip=0",
            "schedule.warmup_steps=0",
        ]);
        let error = go(&bench.options).unwrap_err().to_string();
        assert!(error.starts_with("step "), "{error}");
        assert!(
            error.contains("weight ") || error.contains("gradient of "),
            "{error}"
        );
        let mut options = bench.to("later");
        options.sets = vec!["schedule.kind=constant".into()];
        options.stop_after = Some(4);
        go(&options).unwrap();
        options.resume = Resume::Auto;
        options.stop_after = None;
        options.sets = bench.options.sets.clone();
        let error = go(&options).unwrap_err().to_string();
        assert!(
            error.contains("continue from") && error.contains("step-0000000"),
            "{error}"
        );
    }

    #[test]
    fn the_run_folder_has_its_parts() {
        let bench = Bench::new(&[]);
        let out = &bench.options.out;
        go(&bench.options).unwrap();
        for name in [
            "config.toml",
            "command.txt",
            "env.json",
            "metrics.jsonl",
            "plots/loss.svg",
        ] {
            assert!(fs::metadata(out.join(name)).unwrap().len() > 0, "{name}");
        }
        assert_eq!(fs::read_dir(out.join("checkpoints")).unwrap().count(), 2);
        let latest = fs::read_to_string(out.join("latest")).unwrap();
        assert!(out.join(latest.trim()).join("state.json").is_file());
        let model = cistron_model::HNet::load(&out.join("model"), Device::Cpu).unwrap();
        assert_eq!(model.config().cistron.context, 48);
        let card = fs::read_to_string(out.join("model/README.md")).unwrap();
        assert!(
            card.contains("bits a base over 96 bases") || card.contains("bits a base over 95"),
            "{card}"
        );
        let evaluated: Vec<u64> = steps(out)
            .into_iter()
            .filter(|(_, eval, _)| *eval)
            .map(|(step, ..)| step)
            .collect();
        assert_eq!(evaluated, [4, 8]);
        let events = fs::read_dir(out).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("events.out.tfevents.")
        });
        assert_eq!(events.count(), 1);
        // Going on with a finished run changes nothing.
        let again = PretrainOptions {
            resume: Resume::Auto,
            ..bench.options.clone()
        };
        let before = steps(out);
        assert_eq!(go(&again).unwrap(), Outcome::Finished { step: 8 });
        assert_eq!(before, steps(out));
        assert_eq!(
            fs::read_to_string(out.join("command.txt"))
                .unwrap()
                .lines()
                .count(),
            2
        );
    }

    #[test]
    fn a_signal_leaves_a_checkpoint_after_the_step_at_hand() {
        let bench = Bench::new(&["train.checkpoint_every=0"]);
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            (asked.get() == 3).then_some(15)
        };
        let outcome = run(&bench.options, &Alone::group(), &stop).unwrap();
        assert_eq!(
            outcome,
            Outcome::Interrupted {
                step: 3,
                signal: 15
            }
        );
        assert_eq!(outcome.exit_code(), 143);
        assert!(
            bench
                .options
                .out
                .join("checkpoints/step-00000003/state.json")
                .is_file()
        );
        assert!(!bench.options.out.join("model").exists());
        let resumed = PretrainOptions {
            resume: Resume::Auto,
            ..bench.options.clone()
        };
        assert_eq!(go(&resumed).unwrap(), Outcome::Finished { step: 8 });
    }

    /// Runs on ranks that are threads; each asks `stop` with its number.
    fn go_on(
        world: usize,
        options: &PretrainOptions,
        stop: fn(u64) -> Option<i32>,
    ) -> Vec<Result<Outcome, String>> {
        tch::set_num_threads(1);
        testing::on_ranks(world, |group| {
            let rank = group.rank();
            run(options, &group, &|| stop(rank)).map_err(|error| error.to_string())
        })
    }

    /// Losses of the steps, and bits a base of the evaluations, nearly the same.
    fn same_curve(a: &Path, b: &Path) {
        let (a, b) = (steps(a), steps(b));
        assert_eq!(a.len(), b.len());
        for (one, two) in a.iter().zip(&b) {
            assert_eq!((one.0, one.1), (two.0, two.1));
            assert!((one.2 - two.2).abs() < 1e-4, "{one:?} {two:?}");
        }
    }

    #[test]
    fn a_run_goes_on_with_another_number_of_ranks() {
        let sets = [
            "train.ema_decay=0.9",
            "train.global_batch=12",
            "train.zero=true",
            // Statistics of the ratio loss are over the batches that ranks have at once.
            "model.cistron.alpha=0",
        ];
        let bench = Bench::new(&sets);
        let whole = bench.to("whole");
        assert_eq!(go(&whole).unwrap(), Outcome::Finished { step: 8 });
        let mut cut = bench.to("cut");
        for (world, stop_after) in [(2, Some(3)), (3, Some(3)), (1, None)] {
            cut.stop_after = stop_after;
            for outcome in go_on(world, &cut, |_| None) {
                match stop_after {
                    Some(_) => assert!(matches!(outcome, Ok(Outcome::Paused { .. }))),
                    None => assert_eq!(outcome, Ok(Outcome::Finished { step: 8 })),
                }
            }
            cut.resume = Resume::Auto;
        }
        same_curve(&whole.out, &cut.out);
        let config = fs::read_to_string(cut.out.join("config.toml")).unwrap();
        assert!(config.contains("accumulate = 6"), "{config}");
    }

    #[test]
    fn ranks_write_one_folder_and_finish_a_finished_run_again() {
        let bench = Bench::new(&["train.global_batch=4", "model.cistron.alpha=0"]);
        let options = bench.to("ranks");
        for resume in [Resume::Never, Resume::Auto] {
            let options = PretrainOptions {
                resume,
                ..options.clone()
            };
            for outcome in go_on(2, &options, |_| None) {
                assert_eq!(outcome, Ok(Outcome::Finished { step: 8 }));
            }
        }
        assert_eq!(steps(&options.out).len(), 10);
        let text = fs::read_to_string(options.out.join("env.json")).unwrap();
        assert!(text.contains("\"ranks\": 2"), "{text}");
        let alone = bench.to("alone");
        go(&alone).unwrap();
        same_curve(&alone.out, &options.out);
    }

    #[test]
    fn a_signal_to_one_rank_stops_all_at_the_same_step() {
        let bench = Bench::new(&["train.checkpoint_every=0"]);
        let outcomes = go_on(2, &bench.options, |rank| (rank == 1).then_some(15));
        for outcome in outcomes {
            let expected = Outcome::Interrupted {
                step: 1,
                signal: 15,
            };
            assert_eq!(outcome, Ok(expected));
        }
        let checkpoint = bench.options.out.join("checkpoints/step-00000001");
        assert!(checkpoint.join("state.json").is_file());
    }

    #[test]
    fn a_batch_that_ranks_cannot_divide_is_refused() {
        let bench = Bench::new(&["train.global_batch=6"]);
        for outcome in go_on(2, &bench.options, |_| None) {
            let error = outcome.unwrap_err();
            assert!(
                error.contains("train.global_batch: 6: expected a multiple"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_clock_ends_a_run() {
        let bench = Bench::new(&["schedule.steps=1000000", "schedule.max_minutes=0.02"]);
        let Outcome::Finished { step } = go(&bench.options).unwrap() else {
            panic!("finished")
        };
        assert!(step < 1_000_000);
        assert!(bench.options.out.join("model/model.safetensors").is_file());
    }

    #[test]
    fn mistakes_are_found_before_anything_is_written() {
        let bench = Bench::new(&["optimizer.lrr=1"]);
        assert!(go(&bench.options).is_err());
        let mut options = bench.to("run");
        options.sets.clear();
        options.corpus = bench.folder.path().join("nowhere");
        let error = go(&options).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(!options.out.exists());
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_names_the_last_good_one() {
        let bench = Bench::new(&[]);
        let mut options = bench.options.clone();
        options.stop_after = Some(2);
        go(&options).unwrap();
        // The next checkpoint's place is taken by a file where its folder would be made.
        fs::write(options.out.join("checkpoints/.step-00000004.tmp"), "").unwrap();
        options.resume = Resume::Auto;
        options.stop_after = None;
        let error = go(&options).unwrap_err().to_string();
        assert!(
            error.contains("step-00000004") && error.contains("step-00000002"),
            "{error}"
        );
        assert!(error.contains("--resume auto"), "{error}");
        assert!(
            options
                .out
                .join("checkpoints/step-00000002/model.safetensors")
                .is_file()
        );
    }

    #[test]
    fn the_plan_counts_without_writing() {
        let bench = Bench::new(&[]);
        let plan = crate::plan(&bench.options).unwrap();
        let model = testing::model(0);
        assert_eq!(plan.parameters, model.params().count());
        assert_eq!(plan.tokens_per_step, 96);
        assert_eq!(plan.train_bases, 1220);
        assert!(plan.to_string().contains("# stage 1: T1"), "{plan}");
        let again = RunConfig::parse(&plan.to_string(), Path::new("plan.toml"), &[]).unwrap();
        assert_eq!(again, plan.config);
        assert!(!bench.options.out.exists());
    }
}
