//! Rows of a table of measured variants.

use std::io::Read;
use std::path::Path;

use cistron_genome::compression::{input_name, open_input};

/// Names of the columns, where they are not the usual ones.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// What changes; usually `mutant`, `variant`, `mutations`, `mutation`, `hgvs_pro` or `hgvs_nt`.
    pub mutant: Option<String>,
    /// What was measured; usually `DMS_score`, `score` or `fitness`.
    pub score: Option<String>,
    /// Whether it counts as fit; usually `DMS_score_bin`.
    pub bin: Option<String>,
    /// Whole DNA sequences, in place of changes.
    pub sequence: Option<String>,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its line in the file, from 1.
    pub line: u64,
    /// What changes, as written; with a sequence column, the sequence.
    pub mutant: String,
    /// The protein that results, where the table has `mutated_sequence`.
    pub protein: Option<String>,
    /// What was measured; none where the field is empty or no number.
    pub score: Option<f64>,
    /// Whether it counts as fit.
    pub bin: Option<bool>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The file.
    pub file: String,
    /// Its rows, in order.
    pub rows: Vec<Row>,
    /// Name of the column that was measured.
    pub score: String,
    /// Name of the column with classes.
    pub bin: Option<String>,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("{file}: {}", cistron_genome::system::reason(source))]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no table.
    #[error("{file}: {what}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// A column is not there.
    #[error("{file}: no column {wanted}; there are: {present}; name one with {flag}")]
    Column {
        /// The file.
        file: String,
        /// Names looked for.
        wanted: String,
        /// Names found.
        present: String,
        /// The option.
        flag: &'static str,
    },
}

const MUTANT: &[&str] = &[
    "mutant",
    "mutants",
    "variant",
    "mutations",
    "mutation",
    "hgvs_pro",
    "hgvs_nt",
];
const SCORE: &[&str] = &["dms_score", "score", "fitness"];

impl Table {
    /// Reads a table with a row of names first: comma or tab separated, plain, gzip or BGZF.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no such table, or lacks a column.
    pub fn read(path: &Path, columns: &Columns) -> Result<Self, TableError> {
        let file = input_name(path);
        let input = open_input(path).map_err(|source| TableError::Io {
            file: file.clone(),
            source,
        })?;
        Self::parse(input, file, columns)
    }

    /// Reads a table from anywhere; `file` names it in messages.
    ///
    /// # Errors
    ///
    /// As [`Table::read`].
    pub fn parse(
        mut input: impl Read,
        file: String,
        columns: &Columns,
    ) -> Result<Self, TableError> {
        let mut text = Vec::new();
        input
            .read_to_end(&mut text)
            .map_err(|source| TableError::Io {
                file: file.clone(),
                source,
            })?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let first = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let count = |wanted| first.iter().filter(|&&byte| byte == wanted).count();
        let delimiter = if count(b'\t') >= count(b',') {
            b'\t'
        } else {
            b','
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(text);
        let wrong = |what: String| TableError::Format {
            file: file.clone(),
            what,
        };
        let names: Vec<String> = match reader.byte_headers() {
            Ok(names) => names.iter().map(lossy).collect(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        if names.iter().all(String::is_empty) {
            return Err(wrong("empty; expected a row of names first".into()));
        }
        let find = |given: &Option<String>, usual: &[&str]| match given {
            Some(name) => names.iter().position(|known| known == name),
            None => usual.iter().find_map(|usual| {
                names
                    .iter()
                    .position(|known| known.eq_ignore_ascii_case(usual))
            }),
        };
        let need = |given: &Option<String>, usual: &[&str], flag| {
            find(given, usual).ok_or_else(|| TableError::Column {
                file: file.clone(),
                wanted: match given {
                    Some(name) => format!("'{name}'"),
                    None => usual.join(", "),
                },
                present: names.join(", "),
                flag,
            })
        };
        let mutant = match &columns.sequence {
            Some(_) => need(&columns.sequence, &[], "--sequence-column")?,
            None => need(&columns.mutant, MUTANT, "--mutant-column")?,
        };
        let score = need(&columns.score, SCORE, "--score-column")?;
        let bin = match &columns.bin {
            Some(_) => Some(need(&columns.bin, &[], "--bin-column")?),
            None => find(&None, &["DMS_score_bin"]),
        };
        let protein = find(&None, &["mutated_sequence"]);
        let mut rows = Vec::new();
        let mut record = csv::ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => (),
                Ok(false) => break,
                Err(error) => return Err(wrong(error.to_string())),
            }
            // The reader counts a line break of two bytes to the record after it.
            let line = record.position().map_or(0, |at| {
                let within = text.get(at.byte() as usize) == Some(&b'\n');
                at.line() + u64::from(within)
            });
            let field = |at: usize| record.get(at).map(lossy);
            let Some(change) = field(mutant) else {
                return Err(wrong(format!(
                    "line {line} has {} columns; the column '{}' is number {}",
                    record.len(),
                    names[mutant],
                    mutant + 1
                )));
            };
            let number = |at| {
                let value: f64 = field(at)?.parse().ok()?;
                value.is_finite().then_some(value)
            };
            let class = |at| match field(at)?.to_ascii_lowercase().as_str() {
                "1" | "1.0" | "true" => Some(true),
                "0" | "0.0" | "false" => Some(false),
                _ => None,
            };
            rows.push(Row {
                line,
                mutant: change,
                protein: protein.and_then(field),
                score: number(score),
                bin: bin.and_then(class),
            });
        }
        if rows.is_empty() {
            return Err(wrong("has no rows".into()));
        }
        Ok(Self {
            file,
            rows,
            score: names[score].clone(),
            bin: bin.map(|at| names[at].clone()),
        })
    }
}

fn lossy(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, columns: &Columns) -> Result<Table, String> {
        Table::parse(text.as_bytes(), "t".into(), columns).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_columns_are_found() {
        let usual = Columns::default();
        let text = "\u{feff}mutant,mutated_sequence,DMS_score,DMS_score_bin\r\n\
                    A2G,MG,0.5,1\r\n\"A2V:M1L\",LV,NA,0\r\n";
        let table = read(text, &usual).unwrap();
        assert_eq!((table.score.as_str(), table.rows.len()), ("DMS_score", 2));
        assert_eq!(table.rows[0].protein.as_deref(), Some("MG"));
        assert_eq!(
            (table.rows[0].score, table.rows[0].bin),
            (Some(0.5), Some(true))
        );
        assert_eq!(
            (table.rows[1].score, table.rows[1].bin),
            (None, Some(false))
        );
        assert_eq!((table.rows[1].line, &*table.rows[1].mutant), (3, "A2V:M1L"));
        let tabs = read("variant\tn\tscore\nA1G,C2D\t2\t1e3\n", &usual).unwrap();
        assert_eq!(
            (&*tabs.rows[0].mutant, tabs.rows[0].score),
            ("A1G,C2D", Some(1e3))
        );
        assert_eq!(tabs.bin, None);
    }

    #[test]
    fn other_columns_are_named() {
        let columns = Columns {
            mutant: Some("m".into()),
            score: Some("s2".into()),
            ..Columns::default()
        };
        let table = read("m,s1,s2\nA1G,1,2\n", &columns).unwrap();
        assert_eq!(table.rows[0].score, Some(2.0));
        let error = read("m,s1\nA1G,1\n", &columns).unwrap_err();
        assert_eq!(
            error,
            "t: no column 's2'; there are: m, s1; name one with --score-column"
        );
        let error = read("m,s1\nA1G,1\n", &Columns::default()).unwrap_err();
        assert!(
            error.contains("no column mutant, mutants, variant"),
            "{error}"
        );
    }

    #[test]
    fn broken_tables_say_what_is_wrong() {
        let usual = Columns::default();
        let error = |text| read(text, &usual).unwrap_err();
        assert_eq!(error(""), "t: empty; expected a row of names first");
        assert_eq!(error("mutant,score\n"), "t: has no rows");
        assert_eq!(
            error("score,mutant\n1\n"),
            "t: line 2 has 1 columns; the column 'mutant' is number 2"
        );
    }
}
