//! Which rows are trained on, which stop the training, and which are left for the test.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::HeadError;

/// A part of a split, in the order in which a row of several parts is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Trained on.
    Train,
    /// Stops the training.
    Validation,
    /// Left for the test.
    Test,
}

/// How rows are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folds {
    /// At random.
    Random,
    /// By the position of the first substitution, modulo the number of folds.
    Modulo,
    /// By stretches of positions with about as many rows each.
    Contiguous,
    /// By the number of substitutions: few to train on, more for the test.
    ByOrder,
    /// By a column.
    Column,
}

/// How to divide.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rule.
    pub folds: Folds,
    /// Number of folds.
    pub count: usize,
    /// The folds that are a test set once each; empty for all.
    pub test: Vec<usize>,
    /// Most substitutions of a row to train on, for [`Folds::ByOrder`].
    pub order: usize,
    /// Share of the training rows that stop the training.
    pub validation: f64,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// Rows of each part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What it is called: the number or name of its test fold.
    pub name: String,
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows that stop the training; may be empty.
    pub validation: Vec<usize>,
    /// Rows for the test; may be empty.
    pub test: Vec<usize>,
}

/// What a split column's word means; words of folds count as training.
pub(crate) fn part_of(word: &str, marked: bool) -> Part {
    match word.to_ascii_lowercase().as_str() {
        "test" | "testing" => Part::Test,
        "validation" | "valid" | "val" | "dev" => Part::Validation,
        _ if marked => Part::Validation,
        _ => Part::Train,
    }
}

/// Divides `data`; one split for each fold that is a test set.
///
/// # Errors
///
/// The rule needs what the table has not, or a part is too small.
pub fn split(data: &Dataset, plan: &Plan) -> Result<(Vec<Split>, Vec<String>), HeadError> {
    if plan.folds != Folds::Column && plan.folds != Folds::ByOrder && plan.count < 2 {
        return Err(HeadError::Options(
            "--fold-count: expected at least 2".into(),
        ));
    }
    let mut notes = Vec::new();
    let labels = match plan.folds {
        Folds::Random => random(data.len(), plan),
        Folds::Modulo | Folds::Contiguous => by_position(data, plan, &mut notes)?,
        Folds::ByOrder => return by_order(data, plan).map(|split| (vec![split], notes)),
        Folds::Column => match by_column(data, plan, &mut notes)? {
            Column::Parts(split) => return Ok((vec![split], notes)),
            Column::Folds(labels, names) => {
                let splits = of_labels(data, &labels, &names, plan)?;
                return Ok((splits, notes));
            }
        },
    };
    let names: Vec<String> = (0..plan.count).map(|fold| fold.to_string()).collect();
    Ok((of_labels(data, &labels, &names, plan)?, notes))
}

fn random(rows: usize, plan: &Plan) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(plan.seed ^ 0x666f_6c64));
    let mut labels = vec![0; rows];
    for (place, row) in order.into_iter().enumerate() {
        labels[row] = place % plan.count;
    }
    labels
}

/// The first changed position of each row; rows of the wild type have none.
fn first_positions(data: &Dataset) -> Result<Vec<Option<usize>>, HeadError> {
    (0..data.len())
        .map(|row| {
            let changes = data.substitutions(row).ok_or_else(|| {
                data.error(
                    "folds by position or order need sequences of one length; use --folds random \
                     or --split-column",
                )
            })?;
            Ok(changes.first().map(|change| change.0))
        })
        .collect()
}

/// A label for each row; the wild type is never in a test set.
fn by_position(
    data: &Dataset,
    plan: &Plan,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, HeadError> {
    let positions = first_positions(data)?;
    let several = (0..data.len())
        .filter(|&row| {
            data.substitutions(row)
                .is_some_and(|changes| changes.len() > 1)
        })
        .count();
    if several > 0 {
        notes.push(format!(
            "{several} rows with several substitutions go to the fold of the first; their other \
             positions occur in training"
        ));
    }
    if plan.folds == Folds::Modulo {
        let label = |p: &Option<usize>| p.map_or(usize::MAX, |p| p % plan.count);
        return Ok(positions.iter().map(label).collect());
    }
    let mut sorted: Vec<usize> = positions.iter().filter_map(|p| *p).collect();
    sorted.sort_unstable();
    let label = |position: usize| {
        let before = sorted.partition_point(|&p| p < position);
        before * plan.count / sorted.len()
    };
    let label = |p: &Option<usize>| p.map_or(usize::MAX, label);
    Ok(positions.iter().map(label).collect())
}

fn by_order(data: &Dataset, plan: &Plan) -> Result<Split, HeadError> {
    first_positions(data)?;
    let order = |row: usize| data.substitutions(row).map_or(0, |changes| changes.len());
    let (train, test) = (0..data.len()).partition(|&row| order(row) <= plan.order);
    finish(
        data,
        format!("more than {}", plan.order),
        train,
        None,
        test,
        plan,
    )
}

enum Column {
    Parts(Split),
    Folds(Vec<usize>, Vec<String>),
}

fn by_column(data: &Dataset, plan: &Plan, notes: &mut Vec<String>) -> Result<Column, HeadError> {
    let Some(words) = &data.split else {
        return Err(HeadError::Options(
            "--folds column needs --split-column".into(),
        ));
    };
    let blank = words.iter().filter(|word| word.is_empty()).count();
    if blank > 0 {
        notes.push(format!(
            "{blank} rows with nothing in the split column are left out"
        ));
    }
    let is_part = |word: &String| {
        let known = [
            "train",
            "training",
            "test",
            "testing",
            "validation",
            "valid",
            "val",
            "dev",
        ];
        known.contains(&word.to_ascii_lowercase().as_str())
    };
    if words.iter().filter(|word| !word.is_empty()).all(is_part) {
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for (row, word) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| !word.is_empty())
        {
            let marked = data.validation.as_ref().is_some_and(|marks| marks[row]);
            parts[part_of(word, marked) as usize].push(row);
        }
        let [train, validation, test] = parts;
        let given = (!validation.is_empty()).then_some(validation);
        let split = finish(data, "given".into(), train, given, test, plan)?;
        return Ok(Column::Parts(split));
    }
    let mut names: Vec<String> = words
        .iter()
        .filter(|word| !word.is_empty())
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    if names.len() < 2 || names.len() > 100 {
        return Err(data.error(format!(
            "the split column has {} different words; expected train, validation and test, or 2 to \
             100 names of folds",
            names.len()
        )));
    }
    let label = |word: &String| {
        names
            .iter()
            .position(|name| name == word)
            .unwrap_or(usize::MAX)
    };
    let labels = words.iter().map(label).collect();
    // A row without a fold is in no part.
    Ok(Column::Folds(labels, names))
}

/// One split for each wanted fold of `labels`; rows of no fold are always trained on, unless the
/// folds come from a column.
fn of_labels(
    data: &Dataset,
    labels: &[usize],
    names: &[String],
    plan: &Plan,
) -> Result<Vec<Split>, HeadError> {
    let wanted: Vec<usize> = match plan.test.as_slice() {
        [] => (0..names.len()).collect(),
        some => some.to_vec(),
    };
    if let Some(other) = wanted.iter().find(|&&fold| fold >= names.len()) {
        return Err(HeadError::Options(format!(
            "--test-fold {other}: expected 0 to {}",
            names.len() - 1
        )));
    }
    let rows =
        || (0..data.len()).filter(|&row| plan.folds != Folds::Column || labels[row] < names.len());
    wanted
        .into_iter()
        .map(|fold| {
            let (test, train) = rows().partition(|&row| labels[row] == fold);
            finish(data, names[fold].clone(), train, None, test, plan)
        })
        .collect()
}

/// Draws validation rows where none are given, and refuses parts that are too small.
fn finish(
    data: &Dataset,
    name: String,
    mut train: Vec<usize>,
    validation: Option<Vec<usize>>,
    test: Vec<usize>,
    plan: &Plan,
) -> Result<Split, HeadError> {
    let validation = match validation {
        Some(given) => given,
        None => {
            let mut order = train.clone();
            let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ 0x0076_616c);
            order.shuffle(&mut rng);
            let by_position = matches!(plan.folds, Folds::Modulo | Folds::Contiguous);
            let count = (plan.validation * train.len() as f64).round() as usize;
            let mut chosen: Vec<usize> = if by_position {
                // Whole positions, as the test set has them.
                let position =
                    |row: usize| data.substitutions(row).and_then(|c| c.first().copied());
                let mut chosen = Vec::new();
                let mut taken = Vec::new();
                for &row in &order {
                    if chosen.len() >= count {
                        break;
                    }
                    let Some((place, _)) = position(row) else {
                        continue;
                    };
                    if taken.contains(&place) {
                        continue;
                    }
                    taken.push(place);
                    let same = |&&other: &&usize| position(other).is_some_and(|(p, _)| p == place);
                    chosen.extend(train.iter().filter(same));
                }
                chosen
            } else {
                order[..count].to_vec()
            };
            chosen.sort_unstable();
            train.retain(|row| chosen.binary_search(row).is_err());
            chosen
        }
    };
    if train.len() < 10 {
        return Err(data.error(format!(
            "the split '{name}' leaves {} rows to train on; expected at least 10",
            train.len()
        )));
    }
    Ok(Split {
        name,
        train,
        validation,
        test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alphabet::{Alphabet, Molecule};

    /// All single and some double mutants of AAAAAAAAAA.
    fn data() -> Dataset {
        let mut sequences = vec![vec![0u8; 10]];
        for i in 0..10 {
            for letter in 1..4 {
                let mut one = vec![0u8; 10];
                one[i] = letter;
                sequences.push(one.clone());
                if i < 9 {
                    one[i + 1] = letter;
                    sequences.push(one);
                }
            }
        }
        let count = sequences.len();
        Dataset {
            path: "t.csv".into(),
            rows: (1..=count).collect(),
            names: (0..count).map(|i| i.to_string()).collect(),
            targets: (0..count).map(|i| vec![i as f64]).collect(),
            sequences,
            target_names: vec!["y".into()],
            classes: Vec::new(),
            split: None,
            validation: None,
            alphabet: Alphabet {
                molecule: Molecule::Dna,
                stop: false,
            },
            wild_type: Some(vec![0; 10]),
            first: 1,
            notes: Vec::new(),
        }
    }

    fn plan(folds: Folds) -> Plan {
        Plan {
            folds,
            count: 5,
            test: Vec::new(),
            order: 1,
            validation: 0.1,
            seed: 3,
        }
    }

    /// Parts are disjoint and hold every row; each row is tested once over all folds.
    fn whole(data: &Dataset, splits: &[Split], tested: usize) {
        for split in splits {
            let mut all = [
                split.train.clone(),
                split.validation.clone(),
                split.test.clone(),
            ]
            .concat();
            all.sort_unstable();
            assert_eq!(all, (0..data.len()).collect::<Vec<_>>());
        }
        let mut tests: Vec<usize> = splits.iter().flat_map(|s| s.test.clone()).collect();
        tests.sort_unstable();
        let count = tests.len();
        tests.dedup();
        assert_eq!((count, tests.len()), (tested, tested));
    }

    #[test]
    fn folds_hold_every_row_once() {
        let data = data();
        let (splits, _) = split(&data, &plan(Folds::Random)).unwrap();
        whole(&data, &splits, data.len());
        assert_eq!(split(&data, &plan(Folds::Random)).unwrap().0, splits);
        for folds in [Folds::Modulo, Folds::Contiguous] {
            let (splits, notes) = split(&data, &plan(folds)).unwrap();
            // The wild type is never tested.
            whole(&data, &splits, data.len() - 1);
            assert!(notes[0].starts_with("27 rows with several"));
            let first = |row: &usize| data.substitutions(*row).unwrap()[0].0;
            for split in &splits {
                let mut tested: Vec<usize> = split.test.iter().map(first).collect();
                tested.dedup();
                match folds {
                    Folds::Modulo => assert_eq!(tested[0] % 5, tested[1] % 5),
                    _ => assert_eq!(tested[1] - tested[0], 1),
                }
                let seen: Vec<usize> = split.train[1..].iter().map(first).collect();
                assert!(
                    split
                        .validation
                        .iter()
                        .all(|row| !seen.contains(&first(row)))
                );
            }
        }
    }

    #[test]
    fn orders_and_columns_are_followed() {
        let mut data = data();
        let (splits, _) = split(&data, &plan(Folds::ByOrder)).unwrap();
        assert!(
            splits[0]
                .test
                .iter()
                .all(|&row| data.substitutions(row).unwrap().len() == 2)
        );
        let word = |row: usize| ["train", "train", "Validation", "test", ""][row % 5].to_owned();
        data.split = Some((0..data.len()).map(word).collect());
        let (splits, notes) = split(&data, &plan(Folds::Column)).unwrap();
        assert_eq!(splits.len(), 1);
        assert!(splits[0].validation.iter().all(|row| row % 5 == 2));
        assert!(notes[0].contains("nothing in the split column"));
        let word = |row: usize| ["a", "b", "c"][row % 3].to_owned();
        data.split = Some((0..data.len()).map(word).collect());
        let (splits, _) = split(&data, &plan(Folds::Column)).unwrap();
        assert_eq!(splits.len(), 3);
        whole(&data, &splits, data.len());
        data.split = None;
        assert!(split(&data, &plan(Folds::Column)).is_err());
    }
}
