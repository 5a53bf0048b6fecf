//! Heads that read the frozen states of a genome model.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cistron_genome::code::GeneticCode;
use cistron_heads::alphabet::{Alphabet, Molecule};
use cistron_heads::embed::{self, Level};
use cistron_heads::folder::Backbone;
use cistron_heads::run::Embedded;
use clap::{Args, ValueEnum};
use tch::Device;

use super::input::wild_type;
use crate::models::ModelArg;
use crate::stop;

/// How states become positions.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    /// One position a base; the mean of three for proteins
    Base,
    /// One position a chunk of the model
    Chunk,
}

/// The backbone of a head.
#[derive(Debug, Clone, Args)]
pub struct BackboneArg {
    /// Read the frozen states of this model, a folder or the name of a bundled one, in place of
    /// letters
    #[arg(long, value_name = "MODEL", help_heading = "Backbone")]
    backbone: Option<PathBuf>,
    /// What is a position of the head
    #[arg(
        long,
        value_enum,
        default_value = "base",
        requires = "backbone",
        help_heading = "Backbone"
    )]
    backbone_level: LevelArg,
    /// Coding sequence of a protein's wild type: bases, or a FASTA file; mutants take the nearest
    /// codon
    #[arg(
        long,
        value_name = "BASES|FASTA",
        requires = "backbone",
        help_heading = "Backbone"
    )]
    cds: Option<String>,
}

impl BackboneArg {
    /// States of all sequences, if there is a backbone.
    pub fn embed(
        &self,
        device: Device,
        alphabet: Alphabet,
        sequences: &[Vec<u8>],
        wild_type_letters: Option<&Vec<u8>>,
    ) -> anyhow::Result<Option<Embedded>> {
        let Some(model) = &self.backbone else {
            return Ok(None);
        };
        let level = match (self.backbone_level, alphabet.molecule) {
            (LevelArg::Chunk, _) => Level::Chunk,
            (LevelArg::Base, Molecule::Protein) => Level::Codon,
            (LevelArg::Base, _) => Level::Base,
        };
        let backbone = Backbone {
            model: model.display().to_string(),
            provenance: String::new(),
            level,
            cds: self.cds.as_deref().map(wild_type).transpose()?,
        };
        embed(device, backbone, alphabet, sequences, wild_type_letters).map(Some)
    }
}

/// States that a backbone has of sequences, and of the wild type where one is given.
pub fn embed(
    device: Device,
    backbone: Backbone,
    alphabet: Alphabet,
    sequences: &[Vec<u8>],
    wild_type_letters: Option<&Vec<u8>>,
) -> anyhow::Result<Embedded> {
    let loaded = ModelArg {
        model: PathBuf::from(&backbone.model),
    }
    .load(device)?;
    if !backbone.provenance.is_empty() && backbone.provenance != loaded.provenance {
        bail!(
            "the head was trained on states of {}, but the model is now {}",
            backbone.provenance,
            loaded.provenance
        );
    }
    let compared = wild_type_letters.filter(|_| backbone.level != Level::Chunk);
    let rows = sequences.iter().chain(compared);
    let bases: Vec<Vec<u8>> = match alphabet.molecule {
        Molecule::Protein => {
            let cds = backbone.cds.as_ref().context(
                "--backbone reads bases: give the coding sequence of the protein with --cds",
            )?;
            let wild_type = wild_type_letters
                .context("--backbone with proteins needs sequences of the wild type's length")?;
            let wild_type = alphabet.text(wild_type);
            let code = GeneticCode::from_table(11).context("the genetic code 11")?;
            rows.map(|row| {
                let protein = alphabet.text(row);
                let (from, to) = (wild_type.as_bytes(), protein.as_bytes());
                embed::coding(cds.as_bytes(), from, to, code)
            })
            .collect::<Result<_, _>>()?
        }
        _ => rows
            .map(|row| alphabet.text(row).replace('U', "T").into_bytes())
            .collect(),
    };
    tracing::info!(
        "reading {} sequences with {}",
        bases.len(),
        loaded.provenance
    );
    let (states, mask) = embed::states(&loaded.model, &bases, backbone.level, &stop::flag())?;
    let count = sequences.len() as i64;
    Ok(Embedded {
        backbone: Backbone {
            provenance: loaded.provenance,
            ..backbone
        },
        wild_type: compared.map(|_| states.narrow(0, count, 1)),
        states: states.narrow(0, 0, count),
        mask: mask.narrow(0, 0, count),
    })
}
