//! A run with its open files: what happens around each step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cistron_genome::corpus::Corpus;
use cistron_model::checkpoint::write_atomically;

use crate::adamw::AdamW;
use crate::config::RunConfig;
use crate::environment::Environment;
use crate::evaluate::evaluate;
use crate::events::EventWriter;
use crate::folder::RunFolder;
use crate::loader::Loader;
use crate::metrics::{EvalRecord, MetricsLog, Record, TrainRecord};
use crate::pretrain::{PretrainOptions, due};
use crate::report::Reporter;
use crate::trainer::{StepReport, Trainer};
use crate::{TrainError, card, checkpoint, metrics, plot};

/// A run with its open files.
pub struct Run<'a> {
    folder: &'a RunFolder,
    loader: &'a Loader<'a>,
    /// What is trained.
    pub trainer: Trainer,
    /// What is written and said, on rank 0 alone.
    files: Option<Files>,
    /// The last complete checkpoint.
    last: Option<PathBuf>,
    evaluation: Option<EvalRecord>,
}

/// The open files of a run, and the terminal.
struct Files {
    log: MetricsLog,
    events: Option<EventWriter>,
    reporter: Reporter,
}

impl Files {
    fn say(&self, line: &str) {
        self.reporter.say(line);
    }

    fn show(&mut self, report: &StepReport, record: &TrainRecord) -> Result<(), TrainError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let mut scalars = vec![
            ("train/loss".to_owned(), record.loss),
            ("train/bits_per_base".to_owned(), record.bits_per_base),
            ("train/lr".to_owned(), record.lr),
            ("train/grad_norm".to_owned(), record.grad_norm),
            (
                "train/tokens_per_second".to_owned(),
                record.tokens_per_second,
            ),
        ];
        for (stage, ratio) in record.stages.iter().enumerate() {
            scalars.push((format!("train/F_stage{stage}"), ratio.selected));
            scalars.push((format!("train/G_stage{stage}"), ratio.probability));
        }
        events.scalars(report.step, &scalars)
    }
}

impl<'a> Run<'a> {
    /// Opens or continues the files of `folder` for a trainer from the checkpoint `from`; on
    /// ranks other than 0 nothing is opened.
    pub fn start(
        options: &PretrainOptions,
        folder: &'a RunFolder,
        loader: &'a Loader<'a>,
        trainer: Trainer,
        from: Option<PathBuf>,
    ) -> Result<Self, TrainError> {
        let (config, counts) = (&trainer.config, trainer.counts);
        if trainer.group.rank() > 0 {
            return Ok(Self {
                folder,
                loader,
                trainer,
                files: None,
                last: from,
                evaluation: None,
            });
        }
        if from.is_some() {
            warn_of_changes(folder, config)?;
        }
        let path = folder.join("config.toml");
        write_atomically(&path, config.resolved().as_bytes())?;
        folder.add_command(&options.command)?;
        let environment =
            serde_json::to_string_pretty(&Environment::now(options.device, trainer.group.world()))
                .expect("the environment has a JSON form");
        write_atomically(
            &folder.join("env.json"),
            format!("{environment}\n").as_bytes(),
        )?;
        let path = folder.join("metrics.jsonl");
        let log = MetricsLog::open(&path, counts.step)?;
        let evaluation = metrics::read(&path)?
            .into_iter()
            .rev()
            .find_map(|record| match record {
                Record::Eval(record) => Some(record),
                Record::Train(_) => None,
            });
        let first = if from.is_some() { counts.step + 1 } else { 0 };
        let events = match config.train.tensorboard {
            true => Some(EventWriter::create(folder.path(), first)?),
            false => None,
        };
        let schedule = &config.schedule;
        let steps = (schedule.max_minutes <= 0.0).then_some(schedule.steps);
        let every = config.train.log_every;
        let reporter = Reporter::new(steps, every, trainer.progress(), options.quiet);
        let parameters = trainer.model.params().count();
        let ranks = match trainer.group.world() {
            1 => String::new(),
            world if config.train.zero => format!(" on {world} ranks, optimizer sharded"),
            world => format!(" on {world} ranks"),
        };
        reporter.say(&match &from {
            Some(path) => format!("continuing from {}{ranks}", path.display()),
            None => format!(
                "training {parameters} parameters from seed {}{ranks}",
                config.train.seed
            ),
        });
        Ok(Self {
            folder,
            loader,
            trainer,
            files: Some(Files {
                log,
                events,
                reporter,
            }),
            last: from,
            evaluation,
        })
    }

    /// Takes a step and tells of it; returns a signal that has come to some rank.
    pub fn step(&mut self, stop: &dyn Fn() -> Option<i32>) -> Result<Option<i32>, TrainError> {
        let report = self
            .trainer
            .step(self.loader, stop)
            .map_err(|error| error.after(self.last.as_deref()))?;
        let counts = self.trainer.counts;
        let record = TrainRecord {
            step: report.step,
            loss: report.loss,
            bits_per_base: report.tally.bits_per_base(),
            stages: report.tally.ratios(),
            lr: report.lr,
            grad_norm: report.norm,
            tokens: counts.tokens,
            flops: counts.flops,
            tokens_per_second: report.tally.tokens as f64 / report.seconds.max(1e-9),
            seconds: counts.seconds,
        };
        let progress = self.trainer.progress();
        let Some(files) = &mut self.files else {
            return Ok(report.signal);
        };
        if due(self.trainer.config.train.log_every, report.step) || progress >= 1.0 {
            files.show(&report, &record)?;
        }
        files.log.write(&Record::Train(record))?;
        files.reporter.step(&report, progress);
        Ok(report.signal)
    }

    /// Evaluates, if there is anything to evaluate on.
    pub fn evaluate(&mut self) -> Result<(), TrainError> {
        let started = Instant::now();
        let trainer = &mut self.trainer;
        let tokens = trainer.config.train.eval_tokens;
        let tally = evaluate(trainer.best_model(), self.loader, tokens, &*trainer.group)?;
        trainer.counts.seconds += started.elapsed().as_secs_f64();
        trainer.agree_on_time()?;
        let Some(tally) = tally else { return Ok(()) };
        let record = EvalRecord {
            step: trainer.counts.step,
            bits_per_base: tally.bits_per_base(),
            stages: tally.ratios(),
            bases: tally.scored,
            ema: trainer.average.is_some(),
            seconds: trainer.counts.seconds,
        };
        if let Some(files) = &mut self.files {
            files.log.write(&Record::Eval(record.clone()))?;
            if let Some(events) = &mut files.events {
                let scalars = [("validation/bits_per_base".to_owned(), record.bits_per_base)];
                events.scalars(record.step, &scalars)?;
            }
            files.reporter.evaluation(record.step, &tally, record.ema);
        }
        self.evaluation = Some(record);
        Ok(())
    }

    /// Writes a checkpoint, removes old ones and draws the plot.
    pub fn checkpoint(&mut self) -> Result<(), TrainError> {
        let started = Instant::now();
        let step = self.trainer.counts.step;
        let path = self.folder.checkpoint(step);
        let optimizer = self.trainer.whole_optimizer()?;
        if self.files.is_some() {
            self.write_checkpoint(optimizer.as_ref(), &path)?;
        }
        self.last = Some(path);
        self.trainer.counts.seconds += started.elapsed().as_secs_f64();
        self.trainer.agree_on_time()
    }

    fn write_checkpoint(&self, optimizer: Option<&AdamW>, path: &Path) -> Result<(), TrainError> {
        let step = self.trainer.counts.step;
        checkpoint::save(&self.trainer, optimizer, path)
            .and_then(|()| self.folder.set_latest(step))
            .map_err(|source| TrainError::Unwritten {
                path: path.to_owned(),
                last: self.last.clone(),
                source: Box::new(source),
            })?;
        self.folder
            .prune(step, self.trainer.config.train.keep_last)?;
        self.draw()
    }

    fn draw(&self) -> Result<(), TrainError> {
        let records = metrics::read(&self.folder.join("metrics.jsonl"))?;
        plot::draw(&records, &self.folder.join("plots").join("loss.svg"))
    }

    /// Says that the run ends early.
    pub fn leave(&self, how: &str) {
        if let Some(files) = &self.files {
            files.say(&format!(
                "{how} after step {}; continue with --resume auto",
                self.trainer.counts.step
            ));
        }
    }

    /// The last evaluation, checkpoint and the model folder, where they are not there yet.
    pub fn finish(&mut self, corpus: &Corpus) -> Result<(), TrainError> {
        let step = self.trainer.counts.step;
        let evaluated = self.evaluation.as_ref().map(|record| record.step);
        let saved = self.folder.checkpoint(step);
        // Rank 0 knows what there is.
        let missing = |is: bool| f64::from(u8::from(is && self.files.is_some()));
        let mut wanted = [
            missing(evaluated != Some(step)),
            missing(self.last.as_deref() != Some(saved.as_path())),
        ];
        self.trainer.group.sum(&mut wanted)?;
        if wanted[0] > 0.0 {
            self.evaluate()?;
        }
        if wanted[1] > 0.0 {
            self.checkpoint()?;
        }
        if let Some(files) = &self.files {
            card::save(&self.trainer, self.folder, corpus, self.evaluation.as_ref())?;
            files.say(&format!(
                "finished after step {step}: {}",
                self.folder.join("model").display()
            ));
        }
        Ok(())
    }
}

/// Says which keys outside the model differ from those the run was started with.
fn warn_of_changes(folder: &RunFolder, config: &RunConfig) -> Result<(), TrainError> {
    let path = folder.join("config.toml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(());
    };
    let flat = |config: &RunConfig| {
        let mut keys = BTreeMap::new();
        let value = serde_json::to_value(config).unwrap_or_default();
        checkpoint::flatten("", &value, &mut keys);
        keys
    };
    let (before, now) = (flat(&RunConfig::parse(&text, &path, &[])?), flat(config));
    for (key, value) in &now {
        if before.get(key) != Some(value) {
            let old = before
                .get(key)
                .map_or("absent".to_owned(), ToString::to_string);
            tracing::warn!("{key} was {old} and is {value} from here on");
        }
    }
    Ok(())
}
