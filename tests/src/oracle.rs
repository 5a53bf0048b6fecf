//! Programs of other makes that must read what the binary writes.
//!
//! `tests/setup.sh` installs what it can. Where one is absent a test says so and passes, but
//! not in continuous integration (`CI=true`): there it fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binary;

/// The path of a program, if it is there.
///
/// # Panics
///
/// It is absent and this is continuous integration.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|search| {
        std::env::split_paths(&search)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    });
    if found.is_none() {
        absent(name);
    }
    found
}

/// A Python with this module: that of `CISTRON_PYTHON`, of `.venv-tests`, or `python3`.
///
/// # Panics
///
/// There is none and this is continuous integration.
pub fn python(module: &str) -> Option<PathBuf> {
    let own = binary::workspace().join(".venv-tests/bin/python");
    let candidates = std::env::var_os("CISTRON_PYTHON").map(PathBuf::from);
    let candidates = candidates
        .into_iter()
        .chain([own, PathBuf::from("python3")]);
    let has_module = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().find(has_module);
    if found.is_none() {
        absent(&format!("Python's {module}"));
    }
    found
}

/// Standard output of a program that must succeed in `folder`.
///
/// # Panics
///
/// It fails.
#[track_caller]
pub fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    let mut command = binary::program(program, folder);
    command.args(arguments);
    let said = binary::finish(command).expect(0);
    assert!(
        !said.stderr.to_ascii_lowercase().contains("warn"),
        "{}: {}",
        program.display(),
        said.stderr
    );
    said.text().to_owned()
}

/// Chromium or Chrome: that of `CISTRON_CHROMIUM`, or of the system.
///
/// # Panics
///
/// There is none and this is continuous integration.
pub fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CISTRON_CHROMIUM") {
        return file(&PathBuf::from(path));
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&search)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        absent("Chromium");
    }
    found
}

/// This file, if it is there.
///
/// # Panics
///
/// It is absent and this is continuous integration.
pub fn file(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    absent(&path.display().to_string());
    None
}

fn absent(what: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{what} is absent: run tests/setup.sh");
    // Straight to the terminal: `eprintln!` is kept back for a test that passes.
    let line =
        format!("SKIPPED: {what} is absent, so nothing was checked with it: run tests/setup.sh\n");
    let _shown = std::io::stderr().write_all(line.as_bytes());
}
