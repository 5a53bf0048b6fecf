//! Other names of contigs.
//!
//! Callers write `1` or `NC_018507` where the FASTA has `NC_018507.1`. Names are never
//! guessed: the user gives a table.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::path::Path;

use cistron_genome::compression::{input_name, open_input};
use cistron_genome::fasta::{Contig, Genome};

/// Columns of an NCBI assembly report that name the sequence: Sequence-Name, GenBank-Accn,
/// RefSeq-Accn and UCSC-style-name.
const REPORT_COLUMNS: [usize; 4] = [0, 4, 6, 9];
/// Beginning of the last comment line of an NCBI assembly report.
const REPORT_HEADER: &str = "# Sequence-Name\t";

/// Failure to read an alias table.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// The file cannot be read; the message names it.
    #[error(transparent)]
    Input(#[from] io::Error),
    /// A row has the wrong number of columns.
    #[error(
        "{file}: line {line}: expected two names separated by a tab, or an NCBI assembly \
         report with its header line; found {found} columns (--contig-aliases)"
    )]
    Columns {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: u64,
        /// Number of columns.
        found: usize,
    },
    /// A name stands for two contigs.
    #[error(
        "{file}: line {line}: {name:?} stands for contig {second:?}, and for {first:?} before; \
         leave one of the rows out (--contig-aliases)"
    )]
    Ambiguous {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: u64,
        /// The name.
        name: String,
        /// The contig it stood for first.
        first: String,
        /// The contig it stands for here.
        second: String,
    },
    /// No row names a contig of the genome.
    #[error(
        "{file}: no row names a contig of {fasta}, such as {known:?}; is it the table of \
         another genome? (--contig-aliases)"
    )]
    Unrelated {
        /// The file.
        file: String,
        /// The FASTA.
        fasta: String,
        /// A contig of the FASTA.
        known: String,
    },
}

/// A table of other names of a genome's contigs. The default table is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContigAliases {
    contigs: HashMap<String, usize>,
}

impl ContigAliases {
    /// Reads a table for `genome`: rows of two names separated by a tab, in either order, or
    /// an NCBI assembly report. Rows that name no contig of the genome are passed over;
    /// empty lines and lines that begin with `#` are comments.
    ///
    /// # Errors
    /// When the file cannot be read, a row has another number of columns, a name stands for
    /// two contigs, or no row names a contig of the genome.
    pub fn read(path: &Path, genome: &Genome) -> Result<Self, AliasError> {
        let file = input_name(path);
        let mut aliases = Self::default();
        let mut report = false;
        let mut related = false;
        for (i, line) in open_input(path)?.lines().enumerate() {
            let text = line?;
            let line = i as u64 + 1;
            report |= text.starts_with(REPORT_HEADER);
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let names = row_names(&text, report);
            let names = names.map_err(|found| AliasError::Columns {
                file: file.clone(),
                line,
                found,
            })?;
            let Some(contig) = names.iter().find_map(|name| genome.index_of(name)) else {
                continue;
            };
            related = true;
            for name in names {
                let first = genome.index_of(name);
                let first = first.or_else(|| aliases.contigs.insert(name.to_owned(), contig));
                if let Some(first) = first.filter(|first| *first != contig) {
                    let of = |contig: usize| genome.contigs[contig].name.to_string();
                    return Err(AliasError::Ambiguous {
                        file,
                        line,
                        name: name.to_owned(),
                        first: of(first),
                        second: of(contig),
                    });
                }
            }
        }
        match genome.contigs.first() {
            Some(known) if !related => Err(AliasError::Unrelated {
                file,
                fasta: input_name(&genome.path),
                known: known.name.to_string(),
            }),
            _ => Ok(aliases),
        }
    }

    /// The contig of `genome`, the one the table was read for, that has this name or, if
    /// none has, this alias.
    pub fn resolve<'g>(&self, name: &str, genome: &'g Genome) -> Option<&'g Contig> {
        let aliased = || self.contigs.get(name).copied();
        let index = genome.index_of(name).or_else(aliased)?;
        genome.contigs.get(index)
    }
}

/// The names of a row, or the number of its columns when that is wrong.
fn row_names(row: &str, report: bool) -> Result<Vec<&str>, usize> {
    let columns: Vec<&str> = row.split('\t').map(str::trim).collect();
    if !report {
        let named = columns.iter().all(|name| !name.is_empty());
        return match columns.len() {
            2 if named => Ok(columns),
            found => Err(found),
        };
    }
    if columns.len() < REPORT_COLUMNS[3] + 1 {
        return Err(columns.len());
    }
    let names = REPORT_COLUMNS.iter().map(|i| columns[*i]);
    Ok(names.filter(|name| !matches!(*name, "na" | "")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<(ContigAliases, Genome), AliasError> {
        let folder = tempfile::tempdir().unwrap();
        let fasta = folder.path().join("g.fna");
        std::fs::write(&fasta, ">NC_1.1\nA\n>NC_2.1\nC\n").unwrap();
        let genome = Genome::read(&fasta).unwrap();
        let path = folder.path().join("aliases.tsv");
        std::fs::write(&path, table).unwrap();
        ContigAliases::read(&path, &genome).map(|aliases| (aliases, genome))
    }

    fn resolved(table: &str, name: &str) -> Option<String> {
        let (aliases, genome) = read(table).unwrap();
        let contig = aliases.resolve(name, &genome);
        contig.map(|contig| contig.name.to_string())
    }

    #[test]
    fn two_columns_in_either_order() {
        let table = "# comment\nchr\tNC_1.1\r\n\nNC_2.1\tplasmid\n1\tNC_1.1\nother\tNC_9.1\n";
        for (name, contig) in [("chr", "NC_1.1"), ("1", "NC_1.1"), ("plasmid", "NC_2.1")] {
            assert_eq!(resolved(table, name).as_deref(), Some(contig));
        }
        assert_eq!(resolved(table, "NC_2.1").as_deref(), Some("NC_2.1"));
        assert_eq!(resolved(table, "other"), None);
        assert_eq!(resolved(table, "chr1"), None);
    }

    #[test]
    fn assembly_reports_give_every_name() {
        let table = "# Assembly name:  ASM1v1\n\
            # Sequence-Name\tSequence-Role\tAssigned-Molecule\tAssigned-Molecule-Location/Type\t\
            GenBank-Accn\tRelationship\tRefSeq-Accn\tAssembly-Unit\tSequence-Length\tUCSC-style-name\r\n\
            ANONYMOUS\tassembled-molecule\tna\tChromosome\tCP1.1\t=\tNC_1.1\tPrimary Assembly\t1\tna\r\n\
            pX\tassembled-molecule\tpX\tPlasmid\tCP2.1\t=\tNC_2.1\tPrimary Assembly\t1\tchrX\r\n";
        for (name, contig) in [
            ("ANONYMOUS", "NC_1.1"),
            ("CP1.1", "NC_1.1"),
            ("chrX", "NC_2.1"),
        ] {
            assert_eq!(resolved(table, name).as_deref(), Some(contig), "{name}");
        }
        assert_eq!(resolved(table, "na"), None);
    }

    #[test]
    fn wrong_tables_are_refused() {
        let message = |table| read(table).unwrap_err().to_string();
        assert!(message("a b\n").contains("aliases.tsv: line 1: expected two names"));
        assert!(message("chr\tNC_1.1\tx\n").contains("found 3 columns"));
        assert!(message("\tNC_1.1\n").contains("expected two names"));
        let text = message("x\tNC_1.1\nx\tNC_2.1\n");
        assert!(text.contains("line 2: \"x\" stands for contig \"NC_2.1\", and for \"NC_1.1\""));
        assert!(message("NC_2.1\tNC_1.1\n").contains("line 1"));
        assert!(message("x\ty\n").contains("no row names a contig of"));
        assert!(message("").contains("no row names a contig of"));
    }
}
