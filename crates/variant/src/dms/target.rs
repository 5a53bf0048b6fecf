//! The wild type that a table's changes are made to.

use std::collections::BTreeMap;

use cistron_genome::code::GeneticCode;

use super::codons::Usage;
use super::mutation::Change;

/// Share of a table's wild-type residues that a CDS may have otherwise.
const TOLERATED: f64 = 0.05;

/// A coding sequence whose residues are numbered as the table numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called.
    pub name: String,
    /// Its bases; whole codons.
    pub cds: Vec<u8>,
    /// Number of the first codon in the table.
    pub first: i64,
    /// How it is read.
    pub code: GeneticCode,
    /// Whether the bases were made from a protein.
    pub back_translated: bool,
    /// Residues of the table that the CDS had otherwise, and has now.
    pub repaired: Vec<i64>,
}

/// No wild type fits the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Two rows have another residue in the same place.
    #[error(
        "{file}, line {line}: residue {position} of the wild type is {now} here and {before} on \
         another line"
    )]
    Conflict {
        /// The table.
        file: String,
        /// The line.
        line: u64,
        /// Number of the residue.
        position: i64,
        /// What this line says.
        now: char,
        /// What another says.
        before: char,
    },
    /// No sequence fits.
    #[error(
        "{file}: no sequence fits the wild type of {table}: of the best, {name}, {differ} of \
         {known} residues differ, the first {first}; check that it is the right gene, in frame, \
         and see --offset and --genetic-code"
    )]
    NoFit {
        /// The sequences.
        file: String,
        /// The table.
        table: String,
        /// The sequence that fits best.
        name: String,
        /// Residues that differ.
        differ: usize,
        /// Residues that are known.
        known: usize,
        /// The first that differs, with its number.
        first: String,
    },
    /// A protein that cannot be translated back.
    #[error("{table}: {what}; give the coding sequence with --cds")]
    NoProtein {
        /// The table.
        table: String,
        /// What is wrong.
        what: String,
    },
}

/// Wild-type residues by their number.
pub type Residues = BTreeMap<i64, u8>;

/// The wild-type residues that changes name, each with the line of its row; `table` names the
/// file in messages.
///
/// # Errors
///
/// Two rows contradict each other.
pub fn residues<'a>(
    rows: impl IntoIterator<Item = (u64, &'a [Change])>,
    code: GeneticCode,
    table: &str,
) -> Result<Residues, TargetError> {
    let mut known = Residues::new();
    for (line, changes) in rows {
        for change in changes {
            let (position, now) = match change {
                Change::AminoAcid { position, from, .. } => (*position, *from),
                Change::Codon { position, from, .. } => (*position, code.amino_acid(from)),
                Change::Bases { .. } => continue,
            };
            let before = *known.entry(position).or_insert(now);
            if before != now {
                return Err(TargetError::Conflict {
                    file: table.to_owned(),
                    line,
                    position,
                    now: char::from(now),
                    before: char::from(before),
                });
            }
        }
    }
    Ok(known)
}

impl Target {
    /// The sequence and the number of its first codon that agree with `known` best; 1 where that
    /// is as good as any. Codons of residues that differ are changed to the nearest that agree.
    ///
    /// # Errors
    ///
    /// More than one in twenty residues differ; `files` names the sequences and the table.
    pub fn fit(
        sequences: &[(String, Vec<u8>)],
        known: &Residues,
        offset: Option<i64>,
        code: GeneticCode,
        usage: &Usage,
        files: (&str, &str),
    ) -> Result<Self, TargetError> {
        let mut best: Option<(Vec<i64>, usize, i64)> = None;
        for (number, (_, bases)) in sequences.iter().enumerate() {
            let protein = code.translate(bases);
            let mut consider = |first: i64| {
                let differ = differences(&protein, bases, known, first, code);
                if best
                    .as_ref()
                    .is_none_or(|(least, ..)| differ.len() < least.len())
                {
                    best = Some((differ, number, first));
                }
            };
            consider(offset.unwrap_or(1));
            let (Some(&low), Some(&high)) = (known.keys().next(), known.keys().next_back()) else {
                continue;
            };
            // Only where every residue lies within the sequence.
            let latest = low;
            let earliest = high.saturating_sub(protein.len() as i64).saturating_add(1);
            if offset.is_none() && latest.saturating_sub(earliest) < 20_000 {
                (earliest..=latest).for_each(&mut consider);
            }
        }
        let (differ, number, first) = best.unwrap_or_default();
        let name = sequences
            .get(number)
            .map_or("none", |(name, _)| name.as_str());
        if sequences.is_empty() || differ.len() as f64 > TOLERATED * known.len() as f64 {
            let residue = differ.first().map_or_else(String::new, |position| {
                format!("{}{position}", char::from(known[position]))
            });
            return Err(TargetError::NoFit {
                file: files.0.to_owned(),
                table: files.1.to_owned(),
                name: name.to_owned(),
                differ: differ.len(),
                known: known.len(),
                first: residue,
            });
        }
        let mut cds = sequences[number].1.clone();
        cds.truncate(cds.len() / 3 * 3);
        for position in &differ {
            let at = (position - first) as usize * 3;
            if let Some(codon) = cds.get(at..at + 3)
                && let Some(codon) = usage.nearest(codon, known[position], code)
            {
                cds[at..at + 3].copy_from_slice(&codon);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            cds,
            first,
            code,
            back_translated: false,
            repaired: differ,
        })
    }

    /// A protein as the codons that the host uses most.
    ///
    /// # Errors
    ///
    /// A letter is no amino acid.
    pub fn back_translate(
        name: &str,
        protein: &[u8],
        first: i64,
        code: GeneticCode,
        usage: &Usage,
        table: &str,
    ) -> Result<Self, TargetError> {
        let mut cds = Vec::with_capacity(3 * protein.len());
        for (i, &letter) in protein.iter().enumerate() {
            let codon = usage.most_frequent(letter, code);
            cds.extend(codon.ok_or_else(|| TargetError::NoProtein {
                table: table.to_owned(),
                what: format!(
                    "residue {} of the wild type is '{}', which no codon means",
                    first + i as i64,
                    char::from(letter)
                ),
            })?);
        }
        Ok(Self {
            name: name.to_owned(),
            cds,
            first,
            code,
            back_translated: true,
            repaired: Vec::new(),
        })
    }

    /// Number of codons.
    pub fn codons(&self) -> usize {
        self.cds.len() / 3
    }
}

/// The wild-type protein and the number of its first residue: that of a row with its changes
/// undone, or the residues that changes name, where none is missing in between.
///
/// # Errors
///
/// Neither gives a whole protein.
pub fn protein<'a>(
    rows: impl IntoIterator<Item = (&'a [Change], Option<&'a str>)>,
    known: &Residues,
    table: &str,
) -> Result<(Vec<u8>, i64), TargetError> {
    for (changes, mutated) in rows {
        let Some(mutated) = mutated else { continue };
        let mut protein = mutated.to_ascii_uppercase().into_bytes();
        let undone = changes.iter().all(|change| match change {
            Change::AminoAcid {
                position,
                from,
                to: Some(to),
            } => {
                let place = usize::try_from(position - 1).ok();
                let place = place.and_then(|place| protein.get_mut(place));
                match place {
                    Some(letter) if letter == to => {
                        *letter = *from;
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        });
        if undone && !protein.is_empty() {
            return Ok((protein, 1));
        }
    }
    let gap = |what: String| TargetError::NoProtein {
        table: table.to_owned(),
        what,
    };
    let Some((&first, _)) = known.iter().next() else {
        return Err(gap("names no wild-type residue".into()));
    };
    let mut protein = Vec::with_capacity(known.len());
    for (expected, (&position, &letter)) in (first..).zip(known) {
        if position != expected {
            return Err(gap(format!(
                "does not say what residue {expected} of the wild type is"
            )));
        }
        protein.push(letter);
    }
    Ok((protein, first))
}

fn differences(
    protein: &[u8],
    bases: &[u8],
    known: &Residues,
    first: i64,
    code: GeneticCode,
) -> Vec<i64> {
    let agrees = |position: i64, letter: u8| {
        let Ok(at) = usize::try_from(position.saturating_sub(first)) else {
            return false;
        };
        // A start codon is read as Met whatever it is.
        let starts = at == 0 && letter == b'M' && bases.get(..3).is_some_and(|c| code.is_start(c));
        protein.get(at) == Some(&letter) || starts
    };
    known
        .iter()
        .filter(|&(&position, &letter)| !agrees(position, letter))
        .map(|(&position, _)| position)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dms::mutation::parse;

    const CDS: &[u8] = b"GTGGCTAAAGGTTGGCCTTAA";
    const CODE: GeneticCode = GeneticCode::Eleven;

    fn known(changes: &str) -> Residues {
        let changes = parse(changes).unwrap();
        residues([(2, changes.as_slice())], CODE, "t.csv").unwrap()
    }

    fn fit(changes: &str, offset: Option<i64>) -> Result<Target, TargetError> {
        let sequences = [
            ("other".to_owned(), b"ATGTGTTGTTGTTGTTGTTGT".to_vec()),
            ("right".to_owned(), CDS.to_vec()),
        ];
        let files = ("a.fna", "t.csv");
        Target::fit(
            &sequences,
            &known(changes),
            offset,
            CODE,
            &Usage::ecoli(),
            files,
        )
    }

    #[test]
    fn the_sequence_and_the_numbering_that_fit_are_found() {
        let target = fit("M1V,A2G,K3R,W5C", None).unwrap();
        assert_eq!((target.name.as_str(), target.first), ("right", 1));
        assert_eq!(target.cds, CDS);
        // Numbered by the mature protein, or from 24 on.
        assert_eq!(fit("A1G,K2R,W4C", None).unwrap().first, 0);
        assert_eq!(fit("A25G,K26R,W28C,P29A", None).unwrap().first, 24);
        assert_eq!(fit("A25G,K26R", Some(24)).unwrap().first, 24);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let error = fit("A2G,K3R,W5C,D6A", None).unwrap_err().to_string();
        assert!(error.starts_with("a.fna: no sequence fits the wild type of t.csv: of the best, right, 1 of 4 residues differ, the first D6;"), "{error}");
        assert!(fit("A2G", Some(9)).is_err());
        let changes = parse("A2G,C2D").unwrap();
        let error = residues([(7, changes.as_slice())], CODE, "t.csv").unwrap_err();
        assert_eq!(
            error.to_string(),
            "t.csv, line 7: residue 2 of the wild type is C here and A on another line"
        );
    }

    #[test]
    fn a_few_residues_may_differ() {
        let protein: Vec<u8> = b"MAKGWPLIVFDESTNQRHCYAKGWPLIVFDESTNQRHCY".to_vec();
        let usage = Usage::ecoli();
        let target = Target::back_translate("p", &protein, 1, CODE, &usage, "t").unwrap();
        let mut known: Residues = (1..).zip(protein.iter().copied()).collect();
        known.insert(5, b'F');
        let sequences = [("p".to_owned(), target.cds.clone())];
        let fitted = Target::fit(&sequences, &known, None, CODE, &usage, ("a", "t")).unwrap();
        assert_eq!(fitted.repaired, [5]);
        assert_eq!(CODE.translate(&fitted.cds)[4], b'F');
    }

    #[test]
    fn proteins_come_from_rows_or_residues() {
        let changes = parse("A2G").unwrap();
        let rows = [(changes.as_slice(), Some("MGK"))];
        let none = Residues::new();
        assert_eq!(protein(rows, &none, "t"), Ok((b"MAK".to_vec(), 1)));
        let absent: [(&[Change], Option<&str>); 0] = [];
        let whole = known("A25G,K26R,G27A");
        assert_eq!(protein(absent, &whole, "t"), Ok((b"AKG".to_vec(), 25)));
        let error = protein(absent, &known("A25G,G27A"), "t").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("what residue 26 of the wild type is")
        );
        assert!(protein(absent, &none, "t").is_err());
    }
}
