//! A disk that fills up is an error which names the output and leaves nothing.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Command;

use cistron_genome::corpus::CorpusBuilder;

/// Names the folder in which the limited process works.
const FOLDER: &str = "CISTRON_TEST_DISK_FULL";

/// In a process of its own, whose files may not grow beyond 16 blocks: builds a corpus that
/// needs more. Returns the message of the failure.
#[test]
fn the_output_is_named_and_nothing_left() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let builder = CorpusBuilder::new().fasta(folder.join("g.fna"));
        let error = builder.build(&folder.join("corpus")).unwrap_err();
        println!("message: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!(">g\n{}\n", "ACGT".repeat(1 << 20));
    fs::write(folder.path().join("g.fna"), text).unwrap();
    let output = Command::new("sh")
        .arg("-c")
        // A process that ignores the signal sees the write fail instead.
        .arg("trap '' XFSZ; ulimit -f 16; exec \"$0\" --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let expected = folder.path().join("corpus").join("bases.2bit");
    let expected = format!("message: {}: cannot be written: ", expected.display());
    assert!(text.contains(&expected), "{text}");
    let names = fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["g.fna"]);
}
