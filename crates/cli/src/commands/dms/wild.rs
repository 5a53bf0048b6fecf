//! The wild type of a table: which sequence it is, and where it lies.

use anyhow::{Context, bail};
use cistron_genome::compression::input_name;
use cistron_genome::coord::Strand;
use cistron_genome::fasta::Genome;
use cistron_score::Engine;
use cistron_score::difference::Frame;
use cistron_score::dms::{Place, Placed};
use cistron_variant::dms::codons::Usage;
use cistron_variant::dms::mutation::Change;
use cistron_variant::dms::proteins;
use cistron_variant::dms::table::Table;
use cistron_variant::dms::target::{self, Target};

use super::{Dms, changes, code, sequences};
use crate::commands::{saturate, score};
use crate::failure::Usage as WrongUsage;

/// The wild type.
pub struct Wild {
    /// Its coding sequence; none where rows hold whole sequences.
    pub target: Option<Target>,
    /// Codon use of the host.
    pub usage: Usage,
    /// The genome.
    pub genome: Option<Genome>,
    /// Where in the genome it lies.
    place: Option<Place>,
    /// Bases of the place, along the gene.
    pub region: Vec<u8>,
    /// All of this in words.
    pub said: String,
}

impl Wild {
    /// Finds it by what the command names, and by the table.
    pub fn resolve(command: &Dms, measured: &Table) -> anyhow::Result<Self> {
        let genome = match &command.fasta {
            Some(fasta) => Some(score::read_genome(
                fasta,
                command.gff.as_deref(),
                &command.circular,
            )?),
            None => None,
        };
        let usage = match &genome {
            Some((genome, Some(annotation))) => {
                Usage::count(genome, annotation, &input_name(&annotation.path)).with_context(
                    || {
                        format!(
                            "{}: has no CDS to count codons in",
                            input_name(&annotation.path)
                        )
                    },
                )?
            }
            _ => Usage::ecoli(),
        };
        let genome = genome.map(|(genome, _)| genome);
        let place = match (&command.region, &genome) {
            (Some(region), Some(genome)) => Some(place(genome, region)?),
            _ => None,
        };
        let region = match (&place, &genome) {
            (Some(place), Some(genome)) => bases(genome, place),
            _ => Vec::new(),
        };
        let mut wild = Self {
            target: None,
            usage,
            genome,
            place,
            region,
            said: String::new(),
        };
        if command.sequence_column.is_some() {
            if command.fasta.is_some() && command.region.is_none() {
                let problem = "--sequence-column with --fasta needs --region, the place that the \
                               sequences are put in";
                return Err(WrongUsage(problem.into()).into());
            }
            wild.said = format!("whole sequences{}", wild.surroundings());
            return Ok(wild);
        }
        wild.find_target(command, measured)?;
        Ok(wild)
    }

    fn find_target(&mut self, command: &Dms, measured: &Table) -> anyhow::Result<()> {
        let code = code(command)?;
        let changes = changes(measured);
        let none = Vec::new();
        let readable: Vec<&Vec<Change>> = changes
            .iter()
            .map(|changes| changes.as_ref().unwrap_or(&none))
            .collect();
        let lines = measured.rows.iter().map(|row| row.line);
        let known = target::residues(
            lines.zip(readable.iter().map(|changes| changes.as_slice())),
            code,
            &measured.file,
        )?;
        let (mut candidates, file, translated) = if let Some(cds) = &command.cds {
            (sequences(cds)?, input_name(cds), false)
        } else if let Some(protein) = &command.protein {
            let proteins = proteins::read(protein).with_context(|| input_name(protein))?;
            let back = |(name, letters): (String, Vec<u8>)| {
                let usage = &self.usage;
                let file = input_name(protein);
                let target = Target::back_translate(&name, &letters, 1, code, usage, &file)?;
                anyhow::Ok((name, target.cds))
            };
            let all = proteins.into_iter().map(back).collect::<Result<_, _>>()?;
            (all, input_name(protein), true)
        } else if let Some(region) = &command.region {
            (
                vec![(region.clone(), self.region.clone())],
                command.fasta.as_deref().map(input_name).unwrap_or_default(),
                false,
            )
        } else {
            let rows = readable
                .iter()
                .zip(&measured.rows)
                .map(|(changes, row)| (changes.as_slice(), row.protein.as_deref()));
            let (protein, first) = target::protein(rows, &known, &measured.file)?;
            let first = command.offset.unwrap_or(first);
            let name = "the table's wild type";
            self.target = Some(Target::back_translate(
                name,
                &protein,
                first,
                code,
                &self.usage,
                &measured.file,
            )?);
            if command.fasta.is_some() {
                bail!(
                    "{}: a gene that is translated back cannot be found in --fasta; name its \
                     place with --region, or its coding sequence with --cds",
                    measured.file
                );
            }
            self.describe();
            return Ok(());
        };
        if let Some(name) = &command.target {
            candidates.retain(|(known, _)| known == name);
            if candidates.is_empty() {
                bail!("{file}: has no sequence '{name}' (--target)");
            }
        }
        let files = (file.as_str(), measured.file.as_str());
        let mut target = Target::fit(
            &candidates,
            &known,
            command.offset,
            code,
            &self.usage,
            files,
        )?;
        target.back_translated = translated;
        if let (Some(genome), None) = (&self.genome, &self.place) {
            let as_given = candidates.iter().find(|(name, _)| *name == target.name);
            let cds = as_given.map_or(&target.cds, |(_, bases)| bases);
            let found = Place::find(genome, cds);
            let first = found.first().with_context(|| {
                format!(
                    "{}: does not hold {} of {file} as it is; name its place with --region",
                    command.fasta.as_deref().map(input_name).unwrap_or_default(),
                    target.name
                )
            })?;
            if found.len() > 1 {
                tracing::warn!(
                    "the gene lies in {} places; the first is taken",
                    found.len()
                );
            }
            self.place = Some(first.clone());
        }
        self.target = Some(target);
        self.describe();
        Ok(())
    }

    fn describe(&mut self) {
        let Some(target) = &self.target else { return };
        let how = match target.back_translated {
            true => format!(
                ", translated back with the codons that {} uses most",
                self.usage.host
            ),
            false => String::new(),
        };
        let repaired = match target.repaired.len() {
            0 => String::new(),
            count => format!(", {count} residues changed to those of the table"),
        };
        self.said = format!(
            "{}, {} codons numbered from {}{how}{repaired}{}",
            target.name,
            target.codons(),
            target.first,
            self.surroundings()
        );
    }

    fn surroundings(&self) -> String {
        match (&self.genome, &self.place) {
            (Some(genome), Some(place)) => format!(
                ", within {}:{}-{} ({})",
                genome.contigs[place.contig].name,
                place.start + 1,
                place.start + place.length,
                place.strand
            ),
            _ => ", alone".to_owned(),
        }
    }

    /// Says what was found, and warns of what was made up.
    pub fn log(&self) {
        tracing::info!("wild type: {}", self.said);
        if self
            .target
            .as_ref()
            .is_some_and(|target| target.back_translated)
        {
            tracing::warn!(
                "the coding sequence is made up: codons are those that {} uses most; give the \
                 real one with --cds",
                self.usage.host
            );
        }
    }

    /// The gene with what lies around it.
    pub fn placed(&self, engine: &Engine, frame: &Frame) -> Option<Placed> {
        let cds = match &self.target {
            Some(target) => &target.cds,
            None => &self.region,
        };
        let flank = 2 * frame.context.max(engine.trained_context());
        match (&self.genome, &self.place, &self.target) {
            (Some(genome), Some(place), _) => Some(Placed::within(genome, place, cds, flank)),
            (_, _, Some(target)) => Some(Placed::alone(&target.name, cds)),
            _ => None,
        }
    }
}

/// `CONTIG:FROM-TO`, then `:+` or `:-`.
fn place(genome: &Genome, region: &str) -> anyhow::Result<Place> {
    let (range, strand) = match region.rsplit_once(':') {
        Some((range, "+")) => (range, Strand::Forward),
        Some((range, "-")) => (range, Strand::Reverse),
        _ => (region, Strand::Forward),
    };
    let (contig, interval) = saturate::region(genome, range)?;
    Ok(Place {
        contig,
        start: interval.start(),
        length: interval.len(),
        strand,
    })
}

fn bases(genome: &Genome, place: &Place) -> Vec<u8> {
    let (start, length) = (place.start as usize, place.length as usize);
    let bases = &genome.contigs[place.contig].bases[start..start + length];
    match place.strand {
        Strand::Forward => bases.to_vec(),
        Strand::Reverse => cistron_genome::revcomp(bases),
    }
}
