//! A small real genome, its corpus and a model trained on it: made once for each build of the
//! binary, in the target folder, and shared by all tests.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use crate::binary;

/// Bases of *E. coli* that the fixture holds.
pub const ECOLI: usize = 40_000;

/// Folders of earlier builds are removed at this age.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// What the fixture holds.
#[derive(Debug)]
pub struct Fixture {
    folder: PathBuf,
}

impl Fixture {
    /// The fixture of this binary, made now if it is not there.
    ///
    /// # Panics
    ///
    /// The binary cannot make it.
    pub fn get() -> &'static Self {
        static FIXTURE: OnceLock<Fixture> = OnceLock::new();
        FIXTURE.get_or_init(|| Self::find_or_make().expect("the fixture is made"))
    }

    /// The folder of everything below.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// The first [`ECOLI`] bases of *E. coli* K-12 MG1655, one linear contig.
    pub fn ecoli(&self) -> PathBuf {
        self.folder.join("ecoli.fna")
    }
    /// The genome of phage phiX174, 5,386 bases, one contig.
    pub fn phix(&self) -> PathBuf {
        self.folder.join("phix.fna")
    }
    /// Both genomes, phiX174 for validation.
    pub fn corpus(&self) -> PathBuf {
        self.folder.join("corpus")
    }
    /// A model of two routed stages, trained on the corpus for some seconds.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }
    /// The configuration that the model was trained with.
    pub fn config() -> PathBuf {
        data().join("tiny.toml")
    }

    fn find_or_make() -> std::io::Result<Self> {
        let about = std::fs::metadata(binary::path())?;
        let config = std::fs::metadata(Self::config())?.modified()?;
        let since = |time: std::time::SystemTime| {
            time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
        };
        let key = format!("{:x}-{:x}", since(about.modified()?), since(config));
        let all = binary::path().with_file_name("cistron-tests");
        let folder = all.join(key);
        if !folder.is_dir() {
            std::fs::create_dir_all(&all)?;
            remove_old(&all)?;
            let made = tempfile::tempdir_in(&all)?;
            make(made.path())?;
            // Another test may have been first: then its folder holds the same.
            if std::fs::rename(made.path(), &folder).is_ok() {
                let _renamed = made.keep();
            }
        }
        Ok(Self { folder })
    }
}

/// The files that the tests bring along.
pub fn data() -> PathBuf {
    binary::workspace().join("tests/data")
}

/// The bundled genome of *E. coli* K-12 MG1655, gzipped.
pub fn whole_ecoli() -> PathBuf {
    binary::workspace().join("data/demo/ecoli_MG1655.fna.gz")
}

/// The text of a gzipped file.
///
/// # Errors
///
/// The file cannot be read.
pub fn gunzip(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bases of a FASTA file with one record.
///
/// # Errors
///
/// The file cannot be read.
pub fn bases(path: &Path) -> std::io::Result<Vec<u8>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| !line.starts_with('>'));
    Ok(lines.collect::<String>().into_bytes())
}

fn make(folder: &Path) -> std::io::Result<()> {
    let ecoli = gunzip(&whole_ecoli())?;
    std::fs::write(folder.join("ecoli.fna"), beginning(&ecoli, ECOLI))?;
    std::fs::write(
        folder.join("phix.fna"),
        gunzip(&data().join("phiX174.fna.gz"))?,
    )?;
    binary::run(
        folder,
        "corpus build -q --out corpus --val phix ecoli.fna phix.fna",
    );
    let config = Fixture::config();
    let line = format!(
        "pretrain -q --threads 1 --config {} --corpus corpus --out run",
        config.display()
    );
    binary::run(folder, &line);
    std::fs::rename(folder.join("run/model"), folder.join("model"))?;
    std::fs::remove_dir_all(folder.join("run"))
}

/// The header and the first bases of a FASTA file, with its line breaks.
fn beginning(fasta: &[u8], bases: usize) -> Vec<u8> {
    let header = fasta
        .iter()
        .position(|&b| b == b'\n')
        .map_or(0, |end| end + 1);
    let mut left = bases;
    let mut text: Vec<u8> = fasta[header..]
        .iter()
        .take_while(|&&byte| {
            let wanted = left > 0;
            left -= usize::from(wanted && byte != b'\n');
            wanted
        })
        .copied()
        .collect();
    text.push(b'\n');
    [&fasta[..header], &text].concat()
}

fn remove_old(all: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(all)? {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > OLD {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_has_so_many_bases() {
        assert_eq!(beginning(b">a b\nACG\nTAC\nG\n", 4), b">a b\nACG\nT\n");
        assert_eq!(beginning(b">a b\nACG\nTAC\nG\n", 6), b">a b\nACG\nTAC\n");
    }
}
