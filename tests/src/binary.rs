//! Builds, finds and runs the binary.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
}

/// The binary under test: `CISTRON_BIN` if set, else what cargo builds now, in the profile of
/// the test that asks.
///
/// # Panics
///
/// The binary does not build.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os("CISTRON_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).and_then(Path::file_name);
    let profile = match folder.and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["build", "--quiet", "--message-format=json"])
        .args(["--profile", profile, "--package", "cistron-cli"])
        .args(cfg!(feature = "mpi").then_some("--features=mpi"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build -p cistron-cli failed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| match &message["target"]["name"] {
            name if name == "cistron" => Some(PathBuf::from(message["executable"].as_str()?)),
            _ => None,
        })
        .expect("cargo names the binary that it built")
}

/// A program with nothing of the caller's environment that would change what it prints: the
/// binary is first on `PATH`, models run on the CPU, and threads that wait do not take the cores
/// from others.
pub fn program(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let own = path().parent().expect("the binary is in a folder");
    let others = std::env::var_os("PATH").unwrap_or_default();
    let search =
        std::env::join_paths(std::iter::once(own.to_owned()).chain(std::env::split_paths(&others)));
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("PATH", search.expect("no folder has a ':' in its name"))
        .env("LC_ALL", "C")
        .env("OMP_WAIT_POLICY", "PASSIVE")
        .env("CUDA_VISIBLE_DEVICES", "");
    for unwanted in ["COLUMNS", "CISTRON_LOG", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
        command.env_remove(unwanted);
    }
    command
}

/// The binary with these arguments, to run in `folder`.
pub fn cistron<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = program(path(), folder);
    command.args(arguments);
    command
}

/// What a finished program left.
#[derive(Debug)]
pub struct Finished {
    /// Exit status, or 128 + signal.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            status: output.status.code().or(signal).unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// Checks the exit status.
    ///
    /// # Panics
    ///
    /// It is another one.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "standard error:\n{}", self.stderr);
        self
    }

    /// Standard output as text.
    ///
    /// # Panics
    ///
    /// It is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("standard output is text")
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    ///
    /// It is not one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).expect("standard output is one JSON value")
    }
}

/// Runs a program to its end.
///
/// # Panics
///
/// It cannot be started.
pub fn finish(mut command: Command) -> Finished {
    let output = command.output();
    output
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
        .into()
}

/// Runs the binary with the words of `line` in `folder`, and checks that it exits with 0.
///
/// # Panics
///
/// It exits with another status.
#[track_caller]
pub fn run(folder: &Path, line: &str) -> Finished {
    finish(cistron(folder, line.split_whitespace())).expect(0)
}
