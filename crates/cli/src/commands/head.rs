//! `cistron head`.

mod backbone;
mod epistasis;
mod input;
mod predict;
mod rank;
mod train;

use clap::Subcommand;

use crate::failure::Usage;
use crate::global::Global;

/// `cistron head`.
#[derive(Debug, Subcommand)]
pub enum HeadCommand {
    /// Train a Lyra head on a table, beside its baselines
    Train(Box<train::Train>),
    /// Predict the sequences of a table with a trained head
    Predict(predict::Predict),
    /// Measure what substitutions do together, in a head and in measurements
    Epistasis(epistasis::EpistasisCommand),
    /// Rank all single and the best double mutants, with uncertainty
    Rank(rank::Rank),
}

/// Runs it.
pub fn run(global: &Global, command: HeadCommand) -> anyhow::Result<()> {
    match command {
        HeadCommand::Train(command) => train::run(global, &command),
        HeadCommand::Predict(command) => predict::run(global, &command),
        HeadCommand::Epistasis(command) => epistasis::run(global, &command),
        HeadCommand::Rank(command) => rank::run(global, &command),
    }
}

/// Positions such as `39,40,50-54` in the numbers of a wild type of `length` letters, from 0.
fn positions(text: &str, first: i64, length: usize) -> anyhow::Result<Vec<usize>> {
    let last = first + length as i64 - 1;
    let wrong = |part: &str| {
        Usage(format!(
            "--positions {part}: expected numbers from {first} to {last}, such as 39,40,50-54"
        ))
    };
    let mut found = Vec::new();
    for part in text.split(',') {
        let ends: Vec<Result<i64, _>> = match part.split_once('-').filter(|(a, _)| !a.is_empty()) {
            Some((from, to)) => vec![from.trim().parse(), to.trim().parse()],
            None => vec![part.trim().parse()],
        };
        let ends: Vec<i64> = ends
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|_| wrong(part))?;
        let (from, to) = (ends[0], *ends.last().unwrap_or(&ends[0]));
        if from < first || to > last || from > to {
            return Err(wrong(part).into());
        }
        found.extend((from..=to).map(|number| (number - first) as usize));
    }
    Ok(found)
}
