//! `cistron generate`.

use std::path::PathBuf;

use cistron_genome::fasta::Genome;
use cistron_model::generate::{Sampling, generate};
use clap::Args;

use crate::failure::Usage;
use crate::global::Global;
use crate::models::InferenceArg;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron generate --model run/model --length 500
  cistron generate --model run/model --prompt ATGAAACGC --count 4 --temperature 0.8 --top-p 0.95 --seed 7
  cistron generate --model run/model --prompts starts.fna --length 1000 > continued.fna

Prints FASTA: each prompt followed by what the model adds. Only A, C, G and T are drawn. The same
seed gives the same sequences; a sequence does not depend on the others.")]
pub struct Generate {
    #[command(flatten)]
    model: InferenceArg,
    /// Bases to continue
    #[arg(
        long,
        value_name = "BASES",
        default_value = "",
        conflicts_with = "prompts"
    )]
    prompt: String,
    /// FASTA file of sequences to continue
    #[arg(long, value_name = "FASTA")]
    prompts: Option<PathBuf>,
    /// Bases to add
    #[arg(long, short, value_name = "N", default_value_t = 200)]
    length: usize,
    /// Sequences for each prompt
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    count: usize,
    /// Divides the scores; 0 takes the most likely base
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Draw from this many most likely bases; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from the fewest bases whose probabilities reach this sum
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Bases a line of the output.
const WIDTH: usize = 80;

pub fn run(global: &Global, command: Generate) -> anyhow::Result<()> {
    if !(command.temperature >= 0.0 && command.temperature.is_finite()) {
        return Err(Usage(format!(
            "--temperature {}: expected 0 or more",
            command.temperature
        ))
        .into());
    }
    if !(command.top_p > 0.0 && command.top_p <= 1.0) {
        let message = format!(
            "--top-p {}: expected more than 0 and at most 1",
            command.top_p
        );
        return Err(Usage(message).into());
    }
    let prompts: Vec<(String, Vec<u8>)> = match &command.prompts {
        Some(path) => Genome::read(path)?
            .contigs
            .into_iter()
            .map(|contig| (contig.name.to_string(), contig.bases))
            .collect(),
        None => vec![(
            "generated".into(),
            command.prompt.to_ascii_uppercase().into_bytes(),
        )],
    };
    let legal = |base: &u8| b"ACGTURYSWKMBDHVN".contains(base);
    // Those of a FASTA file have been checked already.
    if let Some(bad) = prompts
        .iter()
        .find_map(|(_, bases)| bases.iter().find(|b| !legal(b)))
    {
        let bad = char::from(*bad);
        let message = format!("--prompt: '{bad}' is no nucleotide code; expected ACGTURYSWKMBDHVN");
        return Err(Usage(message).into());
    }
    let loaded = command.model.load(global.device()?)?;
    let alphabet = loaded.model.config().alphabet();
    let mut tokens = Vec::new();
    for (_, bases) in &prompts {
        let mut sequence = vec![alphabet.bos()];
        alphabet.encode_into(bases, &mut sequence);
        tokens.extend(std::iter::repeat_n(sequence, command.count));
    }
    let sampling = Sampling {
        temperature: command.temperature,
        top_k: command.top_k,
        top_p: command.top_p,
        seed: command.seed,
        allowed: alphabet.base_tokens().to_vec(),
    };
    let drawn = generate(&loaded.model, &tokens, command.length, None, &sampling)?;
    let mut text = String::new();
    for (i, continuation) in drawn.iter().enumerate() {
        let (name, prompt) = &prompts[i / command.count.max(1)];
        let number = i % command.count.max(1) + 1;
        text += &format!(
            ">{name}_{number} prompt={} seed={}\n",
            prompt.len(),
            command.seed
        );
        let bases: Vec<u8> = prompt
            .iter()
            .copied()
            .chain(continuation.iter().map(|&token| alphabet.decode(token)))
            .collect();
        for line in bases.chunks(WIDTH) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
    }
    output::print(&text)
}
