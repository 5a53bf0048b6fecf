//! What the operating system says about a file, and what to do about it.

use std::io::{self, ErrorKind};

/// Why a file cannot be read, with a remedy.
pub fn cannot_read(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "; check the path",
        ErrorKind::PermissionDenied => "; ask for the right to read it",
        ErrorKind::IsADirectory => "; expected a file",
        _ => "",
    };
    format!("cannot be read: {}{remedy}", reason(error))
}

/// Why a file cannot be written, with a remedy.
pub fn cannot_write(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "; make its folder first",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; free some space or write elsewhere"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; write elsewhere",
        _ => "",
    };
    format!("cannot be written: {}{remedy}", reason(error))
}

/// The system's own words for an error. The error of a temporary file has a random name
/// behind them, which would only confuse.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_fits_the_failure() {
        let missing = std::fs::read("no/such/file").unwrap_err();
        let text = "cannot be read: No such file or directory (os error 2); check the path";
        assert_eq!(cannot_read(&missing), text);
        let full = io::Error::from(ErrorKind::StorageFull);
        assert!(cannot_write(&full).ends_with("; free some space or write elsewhere"));
    }

    #[test]
    fn random_names_are_left_out() {
        let error = tempfile::NamedTempFile::new_in("no/such/folder").unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
        let text =
            "cannot be written: No such file or directory (os error 2); make its folder first";
        assert_eq!(cannot_write(&error), text);
    }
}
