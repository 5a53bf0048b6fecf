//! Case folders: a command with its expected output, messages, files and exit status.
//!
//! | file | meaning |
//! |---|---|
//! | `cmd` | bash, run with `-e -o pipefail` in a copy of the folder, the binary on `PATH` |
//! | `exit` | exit status |
//! | `stdout`, `stderr` | what is written there, [filtered](crate::filters); absent: nothing |
//! | `files` | files that the command adds or changes, sorted; absent: none |
//! | `expected/` | text of some of those, filtered |
//! | `needs` | bash that must succeed for the case to run on this machine, and a comment that says why |
//!
//! Every other file is an input. The command finds the [fixture](crate::fixture) in `$MODEL`,
//! `$CORPUS`, `$CONFIG`, `$ECOLI` and `$PHIX`, and the files of `tests/data` in `$DATA`.
//! `CISTRON_BLESS=1` writes what happens as what is expected.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use crate::binary::{Finished, finish, program, workspace};
use crate::filters::filter;
use crate::fixture::{Fixture, data, whole_ecoli};

/// Seconds after which a command is stopped, with exit status 124.
const LIMIT: &str = "120";
/// Files of a case that are no inputs.
const EXPECTATIONS: [&str; 7] = [
    "cmd", "exit", "stdout", "stderr", "files", "expected", "needs",
];

/// A case folder.
#[derive(Debug, Clone)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    folder: PathBuf,
}

/// Every case, by name.
///
/// # Panics
///
/// The folder of cases cannot be read, or one has no `cmd`.
pub fn all() -> Vec<Case> {
    let folder = workspace().join("tests/cases");
    let entries = std::fs::read_dir(&folder).expect("tests/cases is read");
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()));
    let mut cases: Vec<Case> = folders
        .map(|folder| Case {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            folder,
        })
        .collect();
    for case in &cases {
        assert!(case.folder.join("cmd").is_file(), "{}: no cmd", case.name);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// Whether this machine has what the case needs.
    pub fn can_run(&self) -> bool {
        let needs = self.folder.join("needs");
        if !needs.is_file() {
            return true;
        }
        let mut command = program("bash", &self.folder);
        command.arg("needs");
        finish(command).status == 0
    }

    /// Runs the command and compares; with `bless`, writes what happened instead.
    ///
    /// # Errors
    ///
    /// Something is not as expected: what, with its difference.
    pub fn run(&self, bless: bool) -> Result<(), String> {
        self.try_run(bless)
            .unwrap_or_else(|error| Err(error.to_string()))
    }

    fn try_run(&self, bless: bool) -> std::io::Result<Result<(), String>> {
        let sandbox = tempfile::tempdir()?;
        let root = sandbox.path().canonicalize()?;
        let inputs = copy_inputs(&self.folder, &root)?;
        let finished = self.execute(&root);
        let fixture = Fixture::get().folder();
        let data = data();
        let names = [
            (root.as_path(), "[CASE]"),
            (fixture, "[FIXTURE]"),
            (data.as_path(), "[DATA]"),
        ];
        let left = contents(&root)?;
        let changed: Vec<&str> = left
            .iter()
            .filter(|(path, bytes)| inputs.get(*path) != Some(bytes))
            .map(|(path, _)| path.as_str())
            .chain(
                inputs
                    .keys()
                    .filter(|path| !left.contains_key(*path))
                    .map(String::as_str),
            )
            .collect();
        let mut actual = vec![
            ("exit".to_owned(), format!("{}\n", finished.status)),
            (
                "stdout".into(),
                filter(&String::from_utf8_lossy(&finished.stdout), &names),
            ),
            ("stderr".into(), filter(&finished.stderr, &names)),
            (
                "files".into(),
                changed
                    .iter()
                    .map(|path| filter(path, &names) + "\n")
                    .collect(),
            ),
        ];
        for path in contents(&self.folder.join("expected"))?.into_keys() {
            let bytes = left.get(&path).map_or(&b"(absent)\n"[..], Vec::as_slice);
            let text = filter(&String::from_utf8_lossy(bytes), &names);
            actual.push((format!("expected/{path}"), text));
        }
        let mut differences = String::new();
        for (name, text) in actual {
            let path = self.folder.join(&name);
            if bless {
                match text.is_empty() && !name.starts_with("expected/") {
                    true if path.exists() => std::fs::remove_file(&path)?,
                    true => {}
                    false => std::fs::write(&path, text)?,
                }
                continue;
            }
            let expected = std::fs::read(&path).unwrap_or_default();
            let expected = String::from_utf8_lossy(&expected).into_owned();
            if expected != text {
                let difference = TextDiff::from_lines(&expected, &text);
                let mut difference = difference.unified_diff();
                let difference = difference.header(&format!("{name}, expected"), "now");
                let _never_fails = write!(differences, "{difference}");
            }
        }
        Ok(if differences.is_empty() {
            Ok(())
        } else {
            Err(differences)
        })
    }

    fn execute(&self, root: &Path) -> Finished {
        let fixture = Fixture::get();
        let mut command = program("timeout", root);
        command
            .args([LIMIT, "bash", "-e", "-o", "pipefail"])
            .arg(self.folder.join("cmd"))
            .env("MODEL", fixture.model())
            .env("CORPUS", fixture.corpus())
            .env("ECOLI", fixture.ecoli())
            .env("PHIX", fixture.phix())
            .env("CONFIG", Fixture::config())
            .env("DATA", data())
            .env("WHOLE_ECOLI", whole_ecoli());
        finish(command)
    }
}

/// Copies what is no expectation; returns it.
fn copy_inputs(from: &Path, to: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut inputs = contents(from)?;
    inputs.retain(|path, _| {
        let first = path.split('/').next().unwrap_or_default();
        !EXPECTATIONS.contains(&first)
    });
    for (path, bytes) in &inputs {
        let path = to.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(to))?;
        std::fs::write(path, bytes)?;
    }
    Ok(inputs)
}

/// Every file below a folder, by its path from there; nothing when there is no such folder.
fn contents(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let inner = contents(&entry.path())?;
            found.extend(
                inner
                    .into_iter()
                    .map(|(path, bytes)| (format!("{name}/{path}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    Ok(found)
}
