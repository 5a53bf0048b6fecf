//! Storing a plot.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::ReportError;

/// Stores the text of a plot at `path`: under a temporary name first, then renamed, so that
/// a viewer never sees half a plot. A file that exists is replaced.
///
/// # Errors
/// The folder does not exist or the disk is full.
pub fn save(path: &Path, svg: &str) -> Result<(), ReportError> {
    let mut temporary = OsString::from(path);
    temporary.push(".tmp");
    fs::write(&temporary, svg)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| {
            // What was written is of no use; that it may not be there is no further error.
            let _ = fs::remove_file(&temporary);
            ReportError::Io {
                path: path.to_path_buf(),
                source,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_plot_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.svg");
        save(&path, "<svg>1</svg>").unwrap();
        save(&path, "<svg>2</svg>").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "<svg>2</svg>");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file() {
        let error = save(Path::new("no/such/x.svg"), "")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("no/such/x.svg: cannot write the plot: "),
            "{error}"
        );
    }
}
