//! Writing a folder that appears whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{CorpusError, MANIFEST_FILE};

/// A folder under a temporary name beside its final one. Dropping it removes it.
pub(super) struct OutputFolder {
    temporary: TempDir,
    target: PathBuf,
    replace: bool,
}

impl OutputFolder {
    /// Prepares to make the folder `target`.
    ///
    /// # Errors
    /// When `target` exists and `replace` is not set or it is no corpus, or when the folder
    /// around it cannot be written to.
    pub fn create(target: &Path, replace: bool) -> Result<Self, CorpusError> {
        if target.symlink_metadata().is_ok() {
            if !replace {
                return Err(CorpusError::Exists(target.to_owned()));
            }
            if !is_replaceable(target) {
                return Err(CorpusError::NotReplaceable(target.to_owned()));
            }
        }
        let temporary = temporary_beside(target).map_err(CorpusError::write(target))?;
        Ok(Self {
            temporary,
            target: target.to_owned(),
            replace,
        })
    }

    /// Begins a file of the folder.
    pub fn file(&self, name: &str) -> Result<OutputFile, CorpusError> {
        let shown = self.target.join(name);
        let file =
            File::create(self.temporary.path().join(name)).map_err(CorpusError::write(&shown))?;
        Ok(OutputFile {
            inner: BufWriter::with_capacity(1 << 20, file),
            shown,
        })
    }

    /// The folder under its temporary name.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts one finished file in the place of another.
    pub fn replace(&self, from: &str, to: &str) -> Result<(), CorpusError> {
        let folder = self.temporary.path();
        fs::rename(folder.join(from), folder.join(to))
            .map_err(CorpusError::write(&self.target.join(to)))
    }

    /// Gives the folder its final name.
    pub fn publish(self) -> Result<(), CorpusError> {
        let failed = CorpusError::write(&self.target);
        if !self.replace || !self.target.exists() {
            fs::rename(self.temporary.path(), &self.target).map_err(failed)?;
            let _published = self.temporary.keep();
            return Ok(());
        }
        let old = temporary_beside(&self.target).map_err(&failed)?;
        let aside = old.path().join("replaced");
        fs::rename(&self.target, &aside).map_err(&failed)?;
        if let Err(error) = fs::rename(self.temporary.path(), &self.target) {
            fs::rename(&aside, &self.target).map_err(&failed)?;
            return Err(failed(error));
        }
        let _published = self.temporary.keep();
        Ok(())
    }
}

/// Only a corpus or an empty folder is ever replaced.
fn is_replaceable(target: &Path) -> bool {
    target.join(MANIFEST_FILE).is_file()
        || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none())
}

fn temporary_beside(target: &Path) -> io::Result<TempDir> {
    let parent = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cistron-corpus-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The final folder is to have the usual rights, as the umask gives them.
        builder.permissions(Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

/// A file of an [`OutputFolder`]; its errors name it by its final path.
pub(super) struct OutputFile {
    inner: BufWriter<File>,
    shown: PathBuf,
}

impl OutputFile {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CorpusError> {
        self.inner
            .write_all(bytes)
            .map_err(CorpusError::write(&self.shown))
    }

    /// Brings everything to the disk, so that a full one is noticed.
    pub fn finish(mut self) -> Result<(), CorpusError> {
        self.inner
            .flush()
            .and_then(|()| self.inner.get_ref().sync_all())
            .map_err(CorpusError::write(&self.shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(target: &Path, replace: bool) -> Result<(), CorpusError> {
        let folder = OutputFolder::create(target, replace)?;
        let mut file = folder.file(MANIFEST_FILE)?;
        file.write(b"{}")?;
        file.finish()?;
        folder.publish()
    }

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_appears_whole() {
        let here = tempfile::tempdir().unwrap();
        let target = here.path().join("out");
        make(&target, false).unwrap();
        assert_eq!(entries(here.path()), ["out"]);
        assert_eq!(entries(&target), [MANIFEST_FILE]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
            fs::create_dir(here.path().join("plain")).unwrap();
            assert_eq!(mode(&target), mode(&here.path().join("plain")));
        }
    }

    #[test]
    fn an_existing_folder_needs_force() {
        let here = tempfile::tempdir().unwrap();
        let target = here.path().join("out");
        make(&target, false).unwrap();
        fs::write(target.join("extra"), "x").unwrap();
        let message = make(&target, false).unwrap_err().to_string();
        assert!(message.contains("exists already") && message.contains("--force"));
        assert!(target.join("extra").exists());
        make(&target, true).unwrap();
        assert_eq!(entries(&target), [MANIFEST_FILE]);
        assert_eq!(entries(here.path()), ["out"]);
    }

    #[test]
    fn force_spares_what_is_no_corpus() {
        let here = tempfile::tempdir().unwrap();
        let target = here.path().join("thesis");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("chapter"), "x").unwrap();
        let error = make(&target, true).unwrap_err();
        assert!(matches!(error, CorpusError::NotReplaceable(_)), "{error}");
        assert!(target.join("chapter").exists());
        let file = here.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(make(&file, true).is_err());
    }

    #[test]
    fn a_dropped_folder_leaves_nothing() {
        let here = tempfile::tempdir().unwrap();
        let folder = OutputFolder::create(&here.path().join("out"), false).unwrap();
        folder.file("a").unwrap().write(b"x").unwrap();
        drop(folder);
        assert!(entries(here.path()).is_empty());
    }

    #[test]
    fn a_missing_parent_is_an_error_with_the_path() {
        let message = make(Path::new("no/such/out"), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("no/such/out: cannot be written: "),
            "{message}"
        );
    }
}
