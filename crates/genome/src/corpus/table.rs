//! A table of genomes: tab-separated columns under a header line, in any order.
//!
//! `fasta` is the file, relative to the folder of the table; `name`, `split` (`train` or
//! `val`), `lineage` (from coarse to fine with `/` between) and `gff` (an annotation, relative to the
//! same folder) may be left out or empty.
//! Other columns are not looked at.

use std::io::Read;
use std::path::Path;

use super::builder::Input;
use super::{CorpusBuilder, CorpusError, Split, genome_name};
use crate::compression::open_input;

impl CorpusBuilder {
    /// Adds the genomes of a table, as described above for `fasta`, `name`, `split`, `lineage`
    /// and `gff`: tab-separated, one genome a line, the first line naming the columns.
    ///
    /// # Errors
    /// When the table cannot be read, has no column `fasta`, or a line is wrong.
    pub fn table(self, path: &Path) -> Result<Self, CorpusError> {
        let mut text = Vec::new();
        open_input(path)?.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let folder = path.parent().unwrap_or(Path::new(""));
        self.rows(&text, folder)
            .map_err(|(line, what)| CorpusError::Table {
                path: path.to_owned(),
                line,
                what,
            })
    }

    fn rows(mut self, text: &str, folder: &Path) -> Result<Self, (u64, String)> {
        let mut lines = (1..).zip(text.lines());
        let header: Vec<&str> = lines.next().map_or("", |line| line.1).split('\t').collect();
        let column = |name| header.iter().position(|found| *found == name);
        let (name, split, lineage) = (column("name"), column("split"), column("lineage"));
        let gff = column("gff");
        let fasta = column("fasta").ok_or_else(|| {
            (
                1,
                "expected a header line with a column \"fasta\"".to_owned(),
            )
        })?;
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let cells: Vec<&str> = line.split('\t').collect();
            if cells.len() != header.len() {
                let (found, expected) = (cells.len(), header.len());
                return Err((number, format!("{found} columns instead of {expected}")));
            }
            let cell = |column: Option<usize>| column.map_or("", |i| cells[i]);
            if cells[fasta].is_empty() {
                return Err((number, "no file in column \"fasta\"".to_owned()));
            }
            let file = folder.join(cells[fasta]);
            let name = match cell(name) {
                "" => genome_name(&file),
                name => name.to_owned(),
            };
            let split = match cell(split) {
                "" | "train" => Split::Train,
                "val" => Split::Val,
                other => return Err((number, format!("split {other:?} is not train or val"))),
            };
            self.genomes.push(Input {
                name,
                path: file,
                split,
                lineage: cell(lineage).trim().to_owned(),
                annotation: (!cell(gff).is_empty()).then(|| folder.join(cell(gff))),
            });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn build(table: &str) -> Result<Vec<(String, Split)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genomes.tsv");
        fs::write(&path, table).unwrap();
        for name in ["a.fna", "b.fna", "c.fna"] {
            fs::write(folder.path().join(name), ">x\nACGT\n").unwrap();
        }
        let builder = CorpusBuilder::new().table(&path);
        let built = builder.and_then(|builder| builder.build(&folder.path().join("corpus")));
        let corpus = built.map_err(|error| error.to_string())?;
        let genomes = corpus.genomes().iter();
        Ok(genomes
            .map(|genome| (genome.name.clone(), genome.split))
            .collect())
    }

    #[test]
    fn columns_come_in_any_order() {
        let table =
            "split\tlineage\tfasta\tname\nval\tx\ta.fna\t\n\t\tb.fna\tbee\n\ntrain\t\tc.fna\t\n";
        let expected = [
            ("a", Split::Val),
            ("bee", Split::Train),
            ("c", Split::Train),
        ];
        let expected = expected.map(|(name, split)| (name.to_owned(), split));
        assert_eq!(build(table).unwrap(), expected);
        assert_eq!(
            build("fasta\nb.fna\n").unwrap(),
            [("b".to_owned(), Split::Train)]
        );
    }

    #[test]
    fn bad_tables_are_told_apart() {
        for (table, what) in [
            ("", "line 1: expected a header line with a column \"fasta\""),
            ("name\nx\n", "column \"fasta\""),
            ("fasta\tname\na.fna\n", "line 2: 1 columns instead of 2"),
            ("fasta\tname\n\tx\n", "line 2: no file"),
            (
                "fasta\tsplit\na.fna\ttest\n",
                "split \"test\" is not train or val",
            ),
        ] {
            let message = build(table).unwrap_err();
            assert!(message.contains("genomes.tsv, line"), "{message}");
            assert!(message.contains(what), "{message}");
        }
        let missing = CorpusBuilder::new().table(Path::new("no/such.tsv"));
        assert!(missing.unwrap_err().to_string().contains("no/such.tsv"));
    }
}
