//! VCF as the bytes it came in.
//!
//! Scoring must change nothing but the lines it adds, so header lines and records are kept
//! raw and read through views; nothing is parsed and printed again.

mod error;
mod header;
mod reader;
mod record;

pub use error::{LineProblem, VcfError};
pub use header::Header;
pub use reader::Reader;
pub use record::{Column, Record};

/// Length of `line` without its line ending (`\n`, `\r\n`, or a lone final `\r`).
pub(crate) fn body_len(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use super::body_len;

    #[test]
    fn line_endings_are_not_body() {
        for line in ["ab", "ab\n", "ab\r\n", "ab\r"] {
            assert_eq!(body_len(line.as_bytes()), 2);
        }
        assert_eq!(body_len(b"\n"), 0);
        assert_eq!(body_len(b""), 0);
    }
}
