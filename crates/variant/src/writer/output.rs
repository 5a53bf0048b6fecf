//! Where bytes go.

use std::fs::{File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::WriteError;

/// Standard output, a pipe or device, or a file that has its name only when it is whole.
pub(super) enum Output {
    Stdout(Stdout),
    Direct(File),
    Temporary(NamedTempFile, PathBuf),
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self::Stdout(io::stdout())
    }

    /// Opens a temporary file beside `path`, or `path` itself when it is there and not a
    /// regular file.
    pub(super) fn create(path: &Path, force: bool) -> Result<Self, WriteError> {
        let file = path.display().to_string();
        let opened = match path.metadata() {
            Ok(metadata) if metadata.is_file() && !force => {
                return Err(WriteError::Exists { file });
            }
            Ok(metadata) if !metadata.is_file() => {
                OpenOptions::new().write(true).open(path).map(Self::Direct)
            }
            _ => temporary(path).map(|temporary| Self::Temporary(temporary, path.to_owned())),
        };
        opened.map_err(|source| WriteError::Io { file, source })
    }

    /// Makes the whole output visible.
    pub(super) fn commit(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush(),
            Self::Direct(mut file) => file.flush(),
            Self::Temporary(temporary, path) => {
                temporary.persist(path).map(drop).map_err(|e| e.error)
            }
        }
    }
}

/// A temporary file in the folder of `path`, with the permissions of a new file.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask takes away what the user does not want.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Direct(file) => file.write(bytes),
            Self::Temporary(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Direct(file) => file.flush(),
            Self::Temporary(file, _) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        Output::create(&path, false).unwrap().commit().unwrap();
        let usual = folder.path().join("usual");
        File::create(&usual).unwrap();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[test]
    fn a_folder_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let error = Output::create(folder.path(), true).err().unwrap();
        assert!(error.to_string().contains("irectory"), "{error}");
    }
}
