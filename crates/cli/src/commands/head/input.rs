//! Arguments that say where sequences are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cistron_genome::compression::{input_name, open_input};
use cistron_heads::Columns;
use cistron_heads::alphabet::Molecule;
use clap::{Args, ValueEnum};

use crate::failure::Usage;

/// What sequences are made of.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MoleculeArg {
    /// The 20 amino acids
    Protein,
    /// A, C, G, T
    Dna,
    /// A, C, G, U
    Rna,
}

/// The table and its sequences.
#[derive(Debug, Clone, Args)]
pub struct TableArg {
    /// Table: .csv, .tsv or .txt, also with .gz, or .parquet
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Column of whole sequences
    #[arg(long, value_name = "NAME", required_unless_present = "mutant_column")]
    pub sequence_column: Option<String>,
    /// Column of mutants of the wild type, such as A42G:K50R; beside --sequence-column it names rows
    #[arg(long, value_name = "NAME")]
    pub mutant_column: Option<String>,
    /// Read only rows where a column has this value
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    pub filters: Vec<String>,
    /// Number of the wild type's first letter [default: the one that makes all mutants fit]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub first: Option<i64>,
}

impl TableArg {
    /// The columns without targets.
    pub fn columns(&self, wild_type: Option<String>) -> anyhow::Result<Columns> {
        let filter = |text: &String| -> anyhow::Result<(String, String)> {
            let parts = text.split_once('=').ok_or_else(|| {
                Usage(format!(
                    "--where {text}: expected COLUMN=VALUE, such as keep=True"
                ))
            })?;
            Ok((parts.0.to_owned(), parts.1.to_owned()))
        };
        Ok(Columns {
            sequence: self.sequence_column.clone(),
            mutant: self.mutant_column.clone(),
            wild_type,
            first: self.first,
            filters: self.filters.iter().map(filter).collect::<Result<_, _>>()?,
            ..Columns::default()
        })
    }
}

impl MoleculeArg {
    /// As the library has it.
    pub fn molecule(self) -> Molecule {
        match self {
            Self::Protein => Molecule::Protein,
            Self::Dna => Molecule::Dna,
            Self::Rna => Molecule::Rna,
        }
    }
}

/// A wild type: letters, or a FASTA file whose first record it is.
pub fn wild_type(argument: &str) -> anyhow::Result<String> {
    let path = Path::new(argument);
    let letters = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic() || c == '*');
    if !path.exists() {
        if !argument.is_empty() && letters(argument) {
            return Ok(argument.to_ascii_uppercase());
        }
        bail!("--wild-type {argument}: neither a file nor a sequence of letters");
    }
    let name = input_name(path);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut open_input(path)?, &mut text)
        .with_context(|| name.clone())?;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|line| line.starts_with('>')) {
        bail!("{name}: not a FASTA file; expected > and a name in the first line");
    }
    let record = lines.take_while(|line| !line.starts_with('>'));
    let sequence: String = record
        .map(str::trim)
        .collect::<String>()
        .to_ascii_uppercase();
    if sequence.is_empty() || !letters(&sequence) {
        bail!("{name}: the first record is no sequence of letters");
    }
    Ok(sequence)
}
