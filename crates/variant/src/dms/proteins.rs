//! Protein FASTA.

use std::io::{self, BufRead};
use std::path::Path;

use cistron_genome::compression::open_input;

/// Names and upper-case letters of the sequences of a FASTA file, plain, gzip or BGZF; a `*` at
/// the end is left out.
///
/// # Errors
///
/// The file cannot be read, or does not begin with `>`.
pub fn read(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut proteins: Vec<(String, Vec<u8>)> = Vec::new();
    for line in open_input(path)?.split(b'\n') {
        let line = line?;
        let line = line.trim_ascii();
        if let Some(header) = line.strip_prefix(b">") {
            let name = header.split(u8::is_ascii_whitespace).next();
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            proteins.push((name.into_owned(), Vec::new()));
        } else if let Some((_, letters)) = proteins.last_mut() {
            letters.extend(line.to_ascii_uppercase());
        } else if !line.is_empty() {
            return Err(io::Error::other("is no FASTA: it does not begin with '>'"));
        }
    }
    for (_, letters) in &mut proteins {
        if letters.last() == Some(&b'*') {
            letters.pop();
        }
    }
    Ok(proteins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_joined_and_the_stop_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.faa");
        std::fs::write(&path, ">a one\nMak\r\nGW*\n>b\nM\n").unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found[0], ("a".to_owned(), b"MAKGW".to_vec()));
        assert_eq!(found[1], ("b".to_owned(), b"M".to_vec()));
        std::fs::write(&path, "MAK\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("is no FASTA"));
    }
}
