//! JBrowse 2 and igv.js open what `tracks` writes, in headless Chromium.
//!
//! `tests/setup.sh` installs them from npm into `tests/browser`; Chromium comes from the system.
//! With `CISTRON_SCREENSHOTS=DIR` the pictures are kept there.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;

use cistron_tests::binary::{cistron, finish, program, workspace};
use cistron_tests::fixture::{Fixture, bases};
use cistron_tests::oracle;
use serde_json::Value;

/// The gene that is looked at.
const GENE: &str = "gpF";

fn modules() -> PathBuf {
    workspace().join("tests/browser/node_modules")
}

/// Node, when it, Chromium and the browsers are there.
fn node() -> Option<PathBuf> {
    let node = oracle::program("node")?;
    oracle::chromium()?;
    oracle::file(&modules().join("playwright-core/package.json"))?;
    oracle::file(&modules().join("igv/dist/igv.min.js"))?;
    oracle::file(&modules().join("@jbrowse/react-app2/dist/react-app.umd.production.min.js"))?;
    Some(node)
}

/// Tracks of phiX174 with one named gene.
fn tracks() -> &'static Path {
    static OUT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = OUT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let genome = bases(&Fixture::get().phix()).unwrap();
        let fasta = [b">phi\n", &genome[..], b"\n"].concat();
        std::fs::write(folder.path().join("phiX174.fna"), fasta).unwrap();
        let gff = format!(
            "##gff-version 3\nphi\tx\tgene\t1001\t2284\t.\t+\t.\tID=g;Name={GENE};gene={GENE}\n\
             phi\tx\tCDS\t1001\t2284\t.\t+\t0\tID=c;Parent=g;gene={GENE};product=capsid\n"
        );
        std::fs::write(folder.path().join("phiX174.gff3"), gff).unwrap();
        let line = "tracks -q --fasta phiX174.fna --gff phiX174.gff3 --circular all --control 5000 \
                    -o tracks --model";
        let mut command = cistron(folder.path(), line.split_whitespace());
        command.arg(Fixture::get().model());
        finish(command).expect(0);
        folder
    });
    folder.path()
}

/// A running `tracks --serve`; it is stopped when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let line = "tracks -q --serve -o tracks";
        let mut command = cistron(tracks(), line.split_whitespace());
        command
            .arg("--jbrowse")
            .arg(modules().join("@jbrowse/react-app2"));
        command.arg("--igv").arg(modules().join("igv"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line
            .trim()
            .strip_suffix("jbrowse.html")
            .expect(&line)
            .to_owned();
        Self { child, address }
    }

    /// What a page shows in a browser.
    fn look(&self, node: &Path, page: &str, kind: &str, size: (u32, u32)) -> Value {
        let kept = std::env::var_os("CISTRON_SCREENSHOTS").map(PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        let picture = kept.as_deref().unwrap_or(folder.path());
        let picture = picture.join(format!("{kind}-{}.png", size.0));
        let mut command = program(node, &workspace().join("tests/browser"));
        command
            .arg("look.mjs")
            .arg(format!("{}{page}", self.address))
            .arg(kind)
            .arg(&picture)
            .args([size.0.to_string(), size.1.to_string()]);
        command.env("CISTRON_CHROMIUM", oracle::chromium().unwrap());
        let seen = finish(command).expect(0).json();
        assert!(
            std::fs::metadata(&picture).unwrap().len() > 10_000,
            "{picture:?}"
        );
        assert_eq!(seen["errors"], Value::Array(vec![]), "{page}");
        assert_eq!(seen["failed"], Value::Array(vec![]), "{page}");
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The page shows the gene's name and has drawn tracks, among them that of the boundaries.
fn shows_tracks(seen: &Value) {
    let text = seen["text"].as_str().unwrap();
    for part in ["Stage 1 boundaries (+)", "Information"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    for bad in ["Error", "error", "There is no"] {
        assert!(!text.contains(bad), "{bad} in:\n{text}");
    }
    let asked = seen["asked"].as_array().unwrap();
    for file in ["/stage1.fwd.boundary.bw", "/genes.gff3.gz"] {
        assert!(asked.iter().any(|path| path == file), "{file}: {asked:?}");
    }
    let canvases = seen["canvases"].as_array().unwrap();
    let coloured = canvases
        .iter()
        .filter(|canvas| canvas["coloured"].as_u64() > Some(200));
    assert!(coloured.count() >= 3, "{canvases:?}");
}

#[test]
fn jbrowse_draws_the_boundaries_over_a_gene() {
    let Some(node) = node() else { return };
    let seen = Server::start().look(&node, "jbrowse.html", "jbrowse", (1100, 760));
    shows_tracks(&seen);
}

#[test]
fn igv_draws_the_boundaries_over_a_gene() {
    let Some(node) = node() else { return };
    let seen = Server::start().look(&node, "igv.html", "igv", (1100, 760));
    shows_tracks(&seen);
}

#[test]
fn the_report_fits_a_desktop_and_a_telephone() {
    let Some(node) = node() else { return };
    let server = Server::start();
    for size in [(1200, 900), (360, 740)] {
        let seen = server.look(&node, "report.html", "report", size);
        assert!(
            seen["scrollWidth"].as_u64().unwrap() <= u64::from(size.0),
            "nothing sticks out"
        );
        assert!(seen["text"].as_str().unwrap().contains(GENE));
    }
}

#[test]
fn a_served_folder_without_browsers_says_so() {
    let mut command = cistron(
        tracks(),
        "tracks --serve -o tracks --jbrowse tracks".split(' '),
    );
    command.stdout(Stdio::null());
    let finished = finish(command).expect(1);
    assert!(
        finished.stderr.contains("npm install @jbrowse/react-app2"),
        "{}",
        finished.stderr
    );
    let mut child = cistron(tracks(), "tracks --serve -o tracks".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("http://127.0.0.1:"), "{line}");
    child.kill().unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    child.wait().unwrap();
    assert!(said.contains("--igv"), "{said}");
}
