//! From a table to sequences and targets, with every decision counted and said.

mod audit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cistron_tables::Table;
use serde::{Deserialize, Serialize};

use crate::alphabet::{Alphabet, Molecule};
use crate::error::HeadError;
use crate::mutant::{self, Substitution};

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Numbers.
    Regression,
    /// One class of several.
    Classification,
    /// Several labels of 0 and 1, one column each.
    Multilabel,
}

/// Which columns of a table mean what.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Whole sequences.
    pub sequence: Option<String>,
    /// Mutants of the wild type, such as `A42G:K50R`.
    pub mutant: Option<String>,
    /// Letters of the wild type; by default the commonest letter of each position.
    pub wild_type: Option<String>,
    /// Number of the wild type's first letter; by default the one that makes mutants fit.
    pub first: Option<i64>,
    /// What to learn; several for several numbers or labels, none for prediction.
    pub targets: Vec<String>,
    /// Names the part, or the fold, of each row.
    pub split: Option<String>,
    /// Marks validation rows.
    pub validation: Option<String>,
    /// Only rows with these values are read.
    pub filters: Vec<(String, String)>,
    /// What sequences are made of; by default what their letters say.
    pub molecule: Option<Molecule>,
}

/// Sequences with targets. Rows that could not be used are gone, and `notes` says why.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The file.
    pub path: PathBuf,
    /// Row of each entry in the table, 1 for the first below the header.
    pub rows: Vec<usize>,
    /// What each row is called: its mutant, or its number.
    pub names: Vec<String>,
    /// The letters of each row by their numbers.
    pub sequences: Vec<Vec<u8>>,
    /// Targets of each row; a class is its number. NaN where a label is missing.
    pub targets: Vec<Vec<f64>>,
    /// Names of the targets.
    pub target_names: Vec<String>,
    /// Names of the classes, for classification.
    pub classes: Vec<String>,
    /// The split column.
    pub split: Option<Vec<String>>,
    /// The validation column.
    pub validation: Option<Vec<bool>>,
    /// The letters.
    pub alphabet: Alphabet,
    /// The wild type by its letters' numbers, where all rows have its length.
    pub wild_type: Option<Vec<u8>>,
    /// Number of the wild type's first letter.
    pub first: i64,
    /// Decisions, in words.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Reads a table for training.
    ///
    /// # Errors
    ///
    /// A column is missing, mutants do not fit the wild type, targets are constant, or too little
    /// is left.
    pub fn read(path: &Path, columns: &Columns, task: Task) -> Result<Self, HeadError> {
        let table = Table::read(path)?;
        let mut data = Self::sequences(&table, columns, None)?;
        data.read_targets(&table, columns, task)?;
        data.audit(task)?;
        if data.wild_type.is_none() {
            data.find_wild_type();
        }
        Ok(data)
    }

    /// Reads a table for prediction with a head of this alphabet. Nothing but the sequences is
    /// needed; rows with other letters are left out and noted.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`].
    pub fn read_sequences(
        path: &Path,
        columns: &Columns,
        alphabet: Alphabet,
    ) -> Result<Self, HeadError> {
        Self::sequences(&Table::read(path)?, columns, Some(alphabet))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The length of all sequences, or the shortest and the longest where they differ.
    pub fn lengths(&self) -> (usize, usize) {
        let lengths = self.sequences.iter().map(Vec::len);
        let shortest = lengths.clone().min().unwrap_or(0);
        (shortest, lengths.max().unwrap_or(0))
    }

    /// The substitutions of a row, where there is a wild type of its length.
    pub fn substitutions(&self, row: usize) -> Option<Vec<(usize, u8)>> {
        let wild_type = self.wild_type.as_ref()?;
        let sequence = &self.sequences[row];
        (sequence.len() == wild_type.len()).then(|| {
            (0..sequence.len())
                .filter(|&i| sequence[i] != wild_type[i])
                .map(|i| (i, sequence[i]))
                .collect()
        })
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> HeadError {
        HeadError::Data {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// Rows, names and sequences.
    fn sequences(
        table: &Table,
        columns: &Columns,
        alphabet: Option<Alphabet>,
    ) -> Result<Self, HeadError> {
        let error = |problem: String| HeadError::Data {
            path: table.path().to_owned(),
            problem,
        };
        let mut notes = Vec::new();
        let rows = filtered(table, columns, &mut notes)?;
        let mutants = columns.mutant.as_deref().map(|name| table.text(name));
        let mutants = mutants.transpose()?;
        let wild_type = columns
            .wild_type
            .as_ref()
            .map(|text| text.as_bytes().to_vec());
        let mut first = columns.first.unwrap_or(1);
        // (row, name, letters)
        let mut found: Vec<(usize, String, Vec<u8>)> = Vec::new();
        let mut empty = 0;
        if let Some(name) = &columns.sequence {
            let cells = table.text(name)?;
            for row in rows {
                let Some(sequence) = &cells[row] else {
                    empty += 1;
                    continue;
                };
                let named = mutants.as_ref().and_then(|names| names[row].clone());
                let named = named.unwrap_or_else(|| format!("row {}", row + 1));
                found.push((row, named, sequence.to_ascii_uppercase().into_bytes()));
            }
        } else if let (Some(name), Some(cells)) = (&columns.mutant, &mutants) {
            let Some(wild_type) = &wild_type else {
                return Err(HeadError::Options(
                    "mutants need a wild type; give it with --wild-type, or whole sequences with \
                     --sequence-column"
                        .into(),
                ));
            };
            let mut parsed: Vec<(usize, Vec<Substitution>)> = Vec::new();
            for row in rows {
                let Some(cell) = &cells[row] else {
                    empty += 1;
                    continue;
                };
                let mutant = mutant::parse(cell).map_err(|problem| {
                    error(format!("row {}, column '{name}': {problem}", row + 1))
                })?;
                parsed.push((row, mutant));
            }
            if columns.first.is_none() {
                let all = parsed.iter().flat_map(|(_, mutant)| mutant);
                if let Some(number) = mutant::first_number(wild_type, all)
                    && number != 1
                {
                    first = number;
                    notes.push(format!(
                        "mutants are numbered from {number} on: that alone makes them fit the wild type"
                    ));
                }
            }
            for (row, mutant) in parsed {
                let sequence = mutant::apply(wild_type, first, &mutant).map_err(|problem| {
                    error(format!(
                        "row {}, column '{name}': {problem}; check --wild-type and --first",
                        row + 1
                    ))
                })?;
                found.push((row, mutant::name(&mutant), sequence.to_ascii_uppercase()));
            }
        } else {
            return Err(HeadError::Options(
                "nothing says what the sequences are; give --sequence-column or --mutant-column"
                    .into(),
            ));
        }
        if empty > 0 {
            notes.push(format!("{empty} rows without a sequence are left out"));
        }
        let guess = || {
            let mut alphabet =
                Alphabet::guess(found.iter().map(|(_, _, letters)| letters.as_slice()));
            if let Some(molecule) = columns.molecule {
                alphabet.molecule = molecule;
                alphabet.stop &= molecule == Molecule::Protein;
            }
            alphabet
        };
        let alphabet = alphabet.unwrap_or_else(guess);
        let mut data = Self {
            path: table.path().to_owned(),
            rows: Vec::new(),
            names: Vec::new(),
            sequences: Vec::new(),
            targets: Vec::new(),
            target_names: Vec::new(),
            classes: Vec::new(),
            split: None,
            validation: None,
            alphabet,
            wild_type: None,
            first,
            notes,
        };
        data.encode(found)?;
        if let Some(letters) = wild_type {
            let encoded = alphabet.encode_all(&letters).map_err(|(place, letter)| {
                HeadError::Options(format!(
                    "--wild-type: letter {place} is '{letter}'; expected letters of {}",
                    String::from_utf8_lossy(alphabet.letters())
                ))
            })?;
            let other = data.sequences.iter().position(|s| s.len() != encoded.len());
            if let Some(other) = other {
                data.notes.push(format!(
                    "the wild type has {} letters but {} has {}: it is not used",
                    encoded.len(),
                    data.names[other],
                    data.sequences[other].len()
                ));
            } else {
                data.wild_type = Some(encoded);
            }
        }
        Ok(data)
    }

    /// Letters to numbers; rows with other letters are left out.
    fn encode(&mut self, found: Vec<(usize, String, Vec<u8>)>) -> Result<(), HeadError> {
        let total = found.len();
        let mut unknown: Option<String> = None;
        for (row, name, letters) in found {
            match self.alphabet.encode_all(&letters) {
                Ok(sequence) => {
                    self.rows.push(row + 1);
                    self.names.push(name);
                    self.sequences.push(sequence);
                }
                Err((place, letter)) => {
                    unknown.get_or_insert_with(|| {
                        format!("row {} has '{letter}' as letter {place}", row + 1)
                    });
                }
            }
        }
        let Some(example) = unknown else {
            return Ok(());
        };
        let known = String::from_utf8_lossy(self.alphabet.letters());
        let left_out = total - self.len();
        if 2 * left_out > total {
            return Err(self.error(format!(
                "{left_out} of {total} sequences have letters other than {known}: {example}; check \
                 the column, or name the kind with --alphabet protein, dna or rna"
            )));
        }
        self.notes.push(format!(
            "{left_out} rows with letters other than {known} are left out: {example}"
        ));
        Ok(())
    }

    /// Targets, classes and splits of the rows that are there.
    fn read_targets(
        &mut self,
        table: &Table,
        columns: &Columns,
        task: Task,
    ) -> Result<(), HeadError> {
        let pick = |rows: &[usize], cells: &[Option<String>]| -> Vec<String> {
            let cell = |&row: &usize| cells[row - 1].clone().unwrap_or_default();
            rows.iter().map(cell).collect()
        };
        self.target_names.clone_from(&columns.targets);
        if task == Task::Classification {
            let [name] = columns.targets.as_slice() else {
                return Err(HeadError::Options(
                    "classification takes one --target-column; labels of 0 and 1 in several \
                     columns are --task multilabel"
                        .into(),
                ));
            };
            let cells = pick(&self.rows, &table.text(name)?);
            let known: BTreeSet<&String> = cells.iter().filter(|cell| !cell.is_empty()).collect();
            self.classes = known.into_iter().cloned().collect();
            self.classes
                .sort_by(|a, b| match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(a), Ok(b)) => a.total_cmp(&b),
                    _ => a.cmp(b),
                });
            if self.classes.len() > 100 {
                return Err(self.error(format!(
                    "column '{name}' has {} different values; expected at most 100 classes, or \
                     --task regression",
                    self.classes.len()
                )));
            }
            let number = |cell: &String| match self.classes.iter().position(|c| c == cell) {
                Some(class) => vec![class as f64],
                None => vec![f64::NAN],
            };
            self.targets = cells.iter().map(number).collect();
        } else {
            if columns.targets.is_empty() {
                return Err(HeadError::Options("give --target-column".into()));
            }
            let columns: Vec<Vec<Option<f64>>> = columns
                .targets
                .iter()
                .map(|name| table.numbers(name))
                .collect::<Result<_, _>>()?;
            let row = |&row: &usize| -> Vec<f64> {
                let value = |column: &Vec<Option<f64>>| column[row - 1].unwrap_or(f64::NAN);
                columns.iter().map(value).collect()
            };
            self.targets = self.rows.iter().map(row).collect();
        }
        if let Some(name) = &columns.split {
            self.split = Some(pick(&self.rows, &table.text(name)?));
        }
        if let Some(name) = &columns.validation {
            let cells = pick(&self.rows, &table.text(name)?);
            let marked = |cell: &String| {
                ["true", "1", "yes", "validation"].contains(&cell.to_ascii_lowercase().as_str())
            };
            self.validation = Some(cells.iter().map(marked).collect());
        }
        Ok(())
    }

    /// Takes the commonest letter of each position as the wild type, where lengths are equal.
    fn find_wild_type(&mut self) {
        let (shortest, longest) = self.lengths();
        if shortest != longest || self.is_empty() {
            return;
        }
        let size = self.alphabet.size();
        let letter = |i: usize| {
            let mut counts = vec![0usize; size];
            for sequence in &self.sequences {
                counts[usize::from(sequence[i])] += 1;
            }
            let most = (0..size).max_by_key(|&letter| (counts[letter], size - letter));
            most.unwrap_or(0) as u8
        };
        self.wild_type = Some((0..longest).map(letter).collect());
        self.notes.push(
            "the wild type is taken to be the commonest letter of each position; give --wild-type \
             for another"
                .into(),
        );
    }

    /// Keeps the rows that `keep` says.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        fn filter<T>(items: &mut Vec<T>, keep: &[bool]) {
            let mut flags = keep.iter();
            items.retain(|_| *flags.next().unwrap_or(&false));
        }
        filter(&mut self.rows, keep);
        filter(&mut self.names, keep);
        filter(&mut self.sequences, keep);
        filter(&mut self.targets, keep);
        if let Some(split) = &mut self.split {
            filter(split, keep);
        }
        if let Some(validation) = &mut self.validation {
            filter(validation, keep);
        }
    }
}

/// Rows that pass the filters, from 0.
fn filtered(
    table: &Table,
    columns: &Columns,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, HeadError> {
    let mut rows: Vec<usize> = (0..table.rows()).collect();
    for (column, wanted) in &columns.filters {
        let cells = table.text(column)?;
        let before = rows.len();
        rows.retain(|&row| {
            let cell = cells[row].as_deref().unwrap_or_default();
            cell.eq_ignore_ascii_case(wanted)
        });
        notes.push(format!(
            "{} of {before} rows have {column}={wanted}; the others are left out",
            rows.len()
        ));
    }
    Ok(rows)
}
