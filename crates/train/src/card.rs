//! The final model folder with its model card.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use cistron_genome::corpus::{Corpus, Split};
use cistron_model::checkpoint::write_atomically;

use crate::TrainError;
use crate::checkpoint::replace;
use crate::folder::RunFolder;
use crate::metrics::EvalRecord;
use crate::trainer::Trainer;

/// Writes `model/`: `config.json`, `model.safetensors` and `README.md`.
///
/// # Errors
///
/// Something cannot be written.
pub fn save(
    trainer: &Trainer,
    folder: &RunFolder,
    corpus: &Corpus,
    evaluation: Option<&EvalRecord>,
) -> Result<(), TrainError> {
    let unfinished = folder.join(".model.tmp");
    let written = (|| {
        fs::create_dir_all(&unfinished).map_err(|error| TrainError::io(&unfinished, error))?;
        let metadata = BTreeMap::from([
            (
                "tool_version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("step".to_owned(), trainer.counts.step.to_string()),
            ("ema".to_owned(), trainer.average.is_some().to_string()),
        ]);
        trainer.best_model().save(&unfinished, &metadata)?;
        let card = card(trainer, corpus, evaluation);
        write_atomically(&unfinished.join("README.md"), card.as_bytes())?;
        replace(&unfinished, &folder.join("model"))
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    written
}

/// The text of the card: what the model is, what it saw and how well it does.
fn card(trainer: &Trainer, corpus: &Corpus, evaluation: Option<&EvalRecord>) -> String {
    let config = &trainer.config;
    let model = &config.model;
    let mut card =
        String::from("---\nlibrary_name: cistron\ntags: [genomics, dna, h-net]\n---\n\n");
    let layout = serde_json::to_string(&model.arch_layout).unwrap_or_default();
    let _ = writeln!(card, "# Genome language model\n");
    let _ = writeln!(
        card,
        "Pretrained by cistron {} to predict the next base.\n",
        env!("CARGO_PKG_VERSION")
    );
    let _ = writeln!(card, "| | |\n|---|---|");
    let mut row = |key: &str, value: String| {
        let _ = writeln!(card, "| {key} | {value} |");
    };
    row("layout", format!("`{layout}`"));
    row("widths", format!("{:?}", model.d_model));
    row("parameters", trainer.model.params().count().to_string());
    row("context", format!("{} bases", model.cistron.context));
    if !model.cistron.ratio.is_empty() {
        row(
            "target tokens a chunk",
            format!("{:?}", model.cistron.ratio),
        );
    }
    row("steps", trainer.counts.step.to_string());
    row("tokens seen", trainer.counts.tokens.to_string());
    row("seed", config.train.seed.to_string());
    row(
        "weights",
        match &trainer.average {
            Some(_) => format!("moving average, decay {}", config.train.ema_decay),
            None => "of the last step".into(),
        },
    );
    if let Some(evaluation) = evaluation {
        row(
            "validation",
            format!(
                "{:.4} bits a base over {} bases",
                evaluation.bits_per_base, evaluation.bases
            ),
        );
        for (stage, ratio) in evaluation.stages.iter().enumerate() {
            row(
                &format!("chunks a token, stage {stage}"),
                format!(
                    "{:.4} (mean probability {:.4})",
                    ratio.selected, ratio.probability
                ),
            );
        }
    }
    for (title, split) in [("Trained on", Split::Train), ("Validated on", Split::Val)] {
        let genomes: Vec<_> = corpus
            .genomes()
            .iter()
            .filter(|genome| genome.split == split)
            .collect();
        if genomes.is_empty() {
            continue;
        }
        let bases: u64 = genomes.iter().map(|genome| genome.bases).sum();
        let count = genomes.len();
        let plural = if count == 1 { "" } else { "s" };
        let _ = writeln!(
            card,
            "\n## {title}\n\n{count} genome{plural}, {bases} bases.\n"
        );
        for genome in genomes.iter().take(SHOWN) {
            let digest = &genome.sha256[..genome.sha256.len().min(16)];
            let _ = writeln!(
                card,
                "- {}: {} bases, sha256 {digest}…",
                genome.name, genome.bases
            );
        }
        if count > SHOWN {
            let _ = writeln!(card, "- and {} more", count - SHOWN);
        }
    }
    card
}

/// Genomes that are listed by name.
const SHOWN: usize = 50;
