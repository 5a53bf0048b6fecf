//! Workflow engines, run on the toy data of `workflows/` with the binary under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::binary::{self, program};
use crate::oracle;

/// How long a run may take; a toy run takes less than three minutes on two cores.
const LIMIT: Duration = Duration::from_secs(600);

/// The folder of the workflows.
pub fn workflows() -> PathBuf {
    binary::workspace().join("workflows")
}

/// Snakemake of `.venv-tests`, or of `PATH`.
///
/// # Panics
///
/// There is none and this is continuous integration.
pub fn snakemake() -> Option<PathBuf> {
    let own = binary::workspace().join(".venv-tests/bin/snakemake");
    if own.is_file() {
        return Some(own);
    }
    oracle::program("snakemake")
}

/// Nextflow as `tests/setup.sh` fetches it, or of `PATH`.
///
/// # Panics
///
/// There is none and this is continuous integration.
pub fn nextflow() -> Option<PathBuf> {
    let has_jars = std::fs::read_dir(binary::workspace().join(".venv-tests/nextflow"))
        .is_ok_and(|mut entries| entries.next().is_some());
    if has_jars {
        return Some(binary::workspace().join("tests/nextflow/nextflow"));
    }
    oracle::program("nextflow")
}

/// A folder with the toy data as `workflows/toy`, and the genomes that it names; Snakemake runs
/// in `workflows/snakemake`.
///
/// # Errors
///
/// The folder cannot be made.
pub fn toy_folder() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    std::fs::create_dir_all(here.join("workflows/toy"))?;
    std::fs::create_dir_all(here.join("workflows/snakemake"))?;
    for name in ["data", "tests"] {
        std::os::unix::fs::symlink(binary::workspace().join(name), here.join(name))?;
    }
    for entry in std::fs::read_dir(workflows().join("toy"))? {
        let entry = entry?;
        let to = here.join("workflows/toy").join(entry.file_name());
        std::fs::copy(entry.path(), to)?;
    }
    Ok(folder)
}

/// A run of an engine, in a process group of its own.
pub struct Run {
    child: Child,
    output: PathBuf,
}

impl Run {
    /// Starts it in `folder`.
    ///
    /// # Panics
    ///
    /// It cannot be started.
    pub fn start(engine: &Path, arguments: &[&str], folder: &Path) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let output = folder.join(format!("engine-{number}.log"));
        let file = std::fs::File::create(&output).expect("the folder can be written to");
        let mut command: Command = program(engine, folder);
        command
            .args(arguments)
            .env("XDG_CACHE_HOME", folder.join(".cache"))
            .env("NXF_HOME", folder.join(".nextflow-home"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output }
    }

    /// Waits for its end: whether it succeeded, and what it printed.
    ///
    /// # Panics
    ///
    /// It takes too long.
    pub fn finish(mut self) -> (bool, String) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return (status.success(), self.printed());
            }
            if began.elapsed() > LIMIT {
                self.kill();
                panic!("the engine took too long:\n{}", self.printed());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills engine and tasks as soon as `condition` holds.
    ///
    /// # Panics
    ///
    /// It ends before, or takes too long.
    pub fn kill_when(mut self, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none() && began.elapsed() < LIMIT,
                "the run was to be killed before its end:\n{}",
                self.printed()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        let _status = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _status = self.child.wait();
    }

    fn printed(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Runs an engine to its end.
///
/// # Panics
///
/// It fails.
#[track_caller]
pub fn succeed(engine: &Path, arguments: &[&str], folder: &Path) -> String {
    let (success, printed) = Run::start(engine, arguments, folder).finish();
    assert!(success, "{printed}");
    printed
}

/// The scored VCF files of a toy run, `name.vcf.gz` in `found`, must be those that the binary
/// writes in one run, byte for byte, and so must their indexes.
///
/// # Panics
///
/// They are not.
#[track_caller]
pub fn check_variants(folder: &Path, found: &Path, model: &Path) {
    let toy = folder.join("workflows/toy");
    let fasta = |name| binary::workspace().join(name);
    for (sample, genome, gff) in [
        ("phiX174", fasta("tests/data/phiX174.fna.gz"), true),
        ("lambda", fasta("data/demo/lambda.fna.gz"), false),
    ] {
        let mut command = binary::cistron(folder, ["score", "vcf", "-q", "--no-version"]);
        command.arg("--fasta").arg(genome).arg("--model").arg(model);
        if gff {
            command.arg("--gff").arg(toy.join("phiX174.gff3"));
        }
        let name = format!("{sample}_single.vcf.gz");
        command.args(["--force", "--write-index", "-o", &name]);
        command.arg(toy.join(format!("{sample}.vcf")));
        binary::finish(command).expect(0);
        for suffix in ["", ".tbi"] {
            let single = std::fs::read(folder.join(format!("{name}{suffix}")));
            let scattered = found.join(format!("{sample}_calls.vcf.gz{suffix}"));
            assert!(
                single.expect("one run wrote it") == std::fs::read(&scattered).unwrap_or_default(),
                "{} is not what one run writes",
                scattered.display()
            );
        }
    }
}
