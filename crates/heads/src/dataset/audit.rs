//! What makes a table misleading to learn from.

use std::collections::HashMap;

use super::{Dataset, Task};
use crate::error::HeadError;
use crate::folds::{Part, part_of};

/// Fewer rows than these are no training set.
const FEWEST: usize = 20;

impl Dataset {
    /// Leaves out rows without a value, joins rows of one sequence, and refuses what cannot be
    /// learned.
    pub(super) fn audit(&mut self, task: Task) -> Result<(), HeadError> {
        self.leave_out_missing(task);
        self.join_duplicates(task);
        if self.len() < FEWEST {
            let problem = format!(
                "{} usable rows; expected at least {FEWEST}. {}",
                self.len(),
                self.notes.join("; ")
            );
            return Err(self.error(problem));
        }
        if task == Task::Classification && self.classes.len() < 2 {
            let problem = format!(
                "column '{}' is constant: every row is of class '{}'; there is nothing to learn",
                self.target_names[0],
                self.classes.first().map_or("", String::as_str)
            );
            return Err(self.error(problem));
        }
        for (column, name) in self.target_names.iter().enumerate() {
            let mut values = self
                .targets
                .iter()
                .map(|row| row[column])
                .filter(|v| !v.is_nan());
            let first = values.next().unwrap_or(f64::NAN);
            let constant = values.all(|value| value == first);
            if constant {
                let problem = format!(
                    "column '{name}' is constant: every row has {first}; there is nothing to learn"
                );
                return Err(self.error(problem));
            }
            if task == Task::Multilabel {
                let other = self.targets.iter().position(|row| {
                    let value = row[column];
                    !value.is_nan() && value != 0.0 && value != 1.0
                });
                if let Some(other) = other {
                    let problem = format!(
                        "row {}, column '{name}': {} is no label; expected 0, 1 or nothing",
                        self.rows[other], self.targets[other][column]
                    );
                    return Err(self.error(problem));
                }
            }
        }
        Ok(())
    }

    fn leave_out_missing(&mut self, task: Task) {
        let usable = |row: &Vec<f64>| match task {
            // A row may lack some of its labels.
            Task::Multilabel => row.iter().any(|value| value.is_finite()),
            _ => row.iter().all(|value| value.is_finite()),
        };
        let keep: Vec<bool> = self.targets.iter().map(usable).collect();
        let missing = keep.iter().filter(|keep| !**keep).count();
        if missing > 0 {
            self.retain(&keep);
            self.notes.push(format!(
                "{missing} rows without a finite value of {} are left out",
                self.target_names.join(", ")
            ));
        }
    }

    /// One row a sequence: the mean of numbers, and no row where classes or labels disagree. A
    /// sequence in several parts of a given split stays in the last of training, validation, test.
    fn join_duplicates(&mut self, task: Task) {
        let mut groups: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (row, sequence) in self.sequences.iter().enumerate() {
            groups.entry(sequence).or_default().push(row);
        }
        let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|g| g.len() > 1).collect();
        if groups.is_empty() {
            return;
        }
        groups.sort();
        let mut keep = vec![true; self.len()];
        let (mut leaks, mut differing, mut same, mut dropped) = (0, 0, 0, 0);
        let mut example = String::new();
        for group in groups {
            let part = |row: usize| -> Part {
                let label = self.split.as_ref().map_or("", |split| split[row].as_str());
                let marked = self.validation.as_ref().is_some_and(|v| v[row]);
                part_of(label, marked)
            };
            let last = group
                .iter()
                .map(|&row| part(row))
                .max()
                .unwrap_or(Part::Train);
            let (stay, leave): (Vec<usize>, Vec<usize>) =
                group.iter().copied().partition(|&row| part(row) == last);
            leaks += leave.len();
            leave.iter().for_each(|&row| keep[row] = false);
            stay[1..].iter().for_each(|&row| keep[row] = false);
            let first = stay[0];
            let agree = stay.iter().all(|&row| {
                self.targets[row]
                    .iter()
                    .zip(&self.targets[first])
                    .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
            });
            if agree {
                same += stay.len() - 1;
                continue;
            }
            if example.is_empty() {
                example = format!("rows {} and {}", self.rows[first], self.rows[stay[1]]);
            }
            if task == Task::Regression {
                differing += stay.len() - 1;
                let count = stay.len() as f64;
                let mean: Vec<f64> = (0..self.targets[first].len())
                    .map(|k| stay.iter().map(|&row| self.targets[row][k]).sum::<f64>() / count)
                    .collect();
                self.targets[first] = mean;
            } else {
                dropped += stay.len();
                keep[first] = false;
            }
        }
        self.retain(&keep);
        let mut note = |count: usize, text: String| {
            if count > 0 {
                self.notes.push(format!("{count} {text}"));
            }
        };
        note(same, "rows that repeat another are left out".into());
        note(
            differing,
            format!("rows repeat a sequence with another value ({example}): the mean is taken"),
        );
        note(
            dropped,
            format!("rows of sequences whose labels disagree ({example}) are left out"),
        );
        note(
            leaks,
            "rows are left out of a part because their sequence is in a later one (training, \
             validation, test): they would leak"
                .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Columns;
    use super::*;

    fn read(text: &str, task: Task, change: fn(&mut Columns)) -> Result<Dataset, HeadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let mut columns = Columns {
            sequence: Some("s".into()),
            targets: vec!["y".into()],
            ..Columns::default()
        };
        change(&mut columns);
        Dataset::read(&path, &columns, task)
    }

    /// Rows `AC..` with a value each, and `more` lines.
    fn table(more: &str) -> String {
        let letters = b"ACDEFGHIKLMNPQRSTVWY";
        let row = |i: usize| format!("MK{},{}.5,train\n", char::from(letters[i]), i);
        let rows: String = (0..20).map(row).collect();
        format!("s,y,p\n{rows}{more}")
    }

    #[test]
    fn gaps_letters_and_repeats_are_counted() {
        let text = table("MKA,2.5,train\nMKC,1.5,train\nMKW,,train\nMXA,1,train\nMWW,NaN,train\n");
        let data = read(&text, Task::Regression, |_| ()).unwrap();
        assert_eq!(data.len(), 20);
        assert_eq!(data.targets[0], [1.5], "the mean of 0.5 and 2.5");
        let notes = data.notes.join("\n");
        for part in [
            "1 rows with letters other than",
            "row 24 has 'X' as letter 2",
            "2 rows without a finite value of y",
            "1 rows that repeat another",
            "1 rows repeat a sequence with another value (rows 1 and 21)",
            "the wild type is taken to be the commonest letter",
        ] {
            assert!(notes.contains(part), "{part}\n{notes}");
        }
    }

    #[test]
    fn leaks_are_taken_out_of_training() {
        let text = table("MKA,2.5,test\nMKC,1.5,validation\n");
        let data = read(&text, Task::Regression, |c| c.split = Some("p".into())).unwrap();
        assert_eq!(data.len(), 20);
        assert!(
            data.notes
                .iter()
                .any(|note| note.starts_with("2 rows are left out of a part"))
        );
        let split = data.split.unwrap();
        assert_eq!(split.iter().filter(|part| *part == "train").count(), 18);
    }

    #[test]
    fn what_cannot_be_learned_is_refused() {
        let refused = |text: &str, task, change: fn(&mut Columns), part: &str| {
            let error = read(text, task, change).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        let text = table("").replace(".5", "");
        let constant = text.lines().map(|line| {
            let mut cells: Vec<&str> = line.split(',').collect();
            if cells[1] != "y" {
                cells[1] = "3";
            }
            cells.join(",") + "\n"
        });
        let constant: String = constant.collect();
        refused(
            &constant,
            Task::Regression,
            |_| (),
            "column 'y' is constant: every row has 3",
        );
        refused(&constant, Task::Classification, |_| (), "is constant");
        refused(
            &table(""),
            Task::Multilabel,
            |_| (),
            "row 1, column 'y': 0.5 is no label",
        );
        refused(
            &table(""),
            Task::Regression,
            |c| c.targets[0] = "z".into(),
            "no column 'z'",
        );
        refused(
            "s,y\nMK,1\n",
            Task::Regression,
            |_| (),
            "1 usable rows; expected at least 20",
        );
        refused(
            &table(""),
            Task::Regression,
            |c| (c.sequence, c.mutant) = (None, Some("s".into())),
            "mutants need a wild type",
        );
    }
}
