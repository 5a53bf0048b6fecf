//! The header of a VCF.

use std::error::Error;

use noodles::vcf::header::Parser;

use super::error::excerpt;
use super::{LineProblem, body_len};

/// The header lines of a VCF as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    lines: Vec<Vec<u8>>,
    samples: Vec<String>,
    columns: usize,
    warnings: Vec<String>,
}

impl Header {
    /// Takes header lines, each with its line ending, the last being the `#CHROM` line.
    ///
    /// The first and the last line must be right. Others that break the specification are
    /// kept all the same and reported by [`Header::warnings`].
    ///
    /// # Errors
    /// The 0-based index of the wrong line, and what is wrong.
    pub fn parse(lines: Vec<Vec<u8>>) -> Result<Self, (usize, LineProblem)> {
        let mut parser = Parser::default();
        let mut warnings = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            let body = &line[..body_len(line)];
            let Err(error) = parser.parse_partial(body) else {
                continue;
            };
            if i == 0 {
                let found = excerpt(line);
                return Err((i, LineProblem::FileFormat { found }));
            }
            if is_column_line(body) {
                let reason = with_sources(&error);
                return Err((i, LineProblem::ColumnLine { reason }));
            }
            let (line, text) = (i + 1, excerpt(line));
            warnings.push(format!("line {line}: {text:?}: {}", with_sources(&error)));
        }
        let last = lines.len().saturating_sub(1);
        let header = parser.finish().map_err(|error| {
            let reason = with_sources(&error);
            (last, LineProblem::ColumnLine { reason })
        })?;
        let columns = lines[last].split(|byte| *byte == b'\t').count();
        Ok(Self {
            samples: header.sample_names().iter().cloned().collect(),
            lines,
            columns,
            warnings,
        })
    }

    /// Every line with its line ending; the last is the `#CHROM` line.
    pub fn lines(&self) -> &[Vec<u8>] {
        &self.lines
    }

    /// Names of the samples, in column order.
    pub fn samples(&self) -> &[String] {
        &self.samples
    }

    /// Number of tab-separated columns of the `#CHROM` line, thus of every record.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Lines that break the VCF specification, with line number and reason.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `\r\n` when the first line ends so, else `\n`.
    pub fn line_ending(&self) -> &'static str {
        if self.lines[0].ends_with(b"\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }
}

/// Whether a line names the columns, and so ends the header.
pub(super) fn is_column_line(line: &[u8]) -> bool {
    line.starts_with(b"#") && !line.starts_with(b"##")
}

/// The message of an error and of what caused it.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header, (usize, LineProblem)> {
        let lines = text.split_inclusive('\n').map(|l| l.as_bytes().to_vec());
        Header::parse(lines.collect())
    }

    const COLUMNS: &str = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO";

    #[test]
    fn samples_and_columns_are_counted() {
        let header = parse(&format!("##fileformat=VCFv4.2\n{COLUMNS}\n")).unwrap();
        assert_eq!((header.columns(), header.samples().len()), (8, 0));
        let header = parse(&format!("##fileformat=VCFv4.5\n{COLUMNS}\tFORMAT\ta\tb b")).unwrap();
        assert_eq!(header.columns(), 11);
        assert_eq!(header.samples(), ["a", "b b"]);
        assert_eq!(header.lines().len(), 2);
    }

    #[test]
    fn the_line_ending_is_known() {
        let text = format!("##fileformat=VCFv4.2\n{COLUMNS}\n");
        assert_eq!(parse(&text).unwrap().line_ending(), "\n");
        let text = text.replace('\n', "\r\n");
        let header = parse(&text).unwrap();
        assert_eq!(header.line_ending(), "\r\n");
        assert_eq!(header.columns(), 8);
    }

    #[test]
    fn the_first_and_last_line_must_be_right() {
        for first in [
            "##source=x",
            "##fileformat=VCF",
            "c\t1\t.",
            "\u{feff}##fileformat=VCFv4.2",
        ] {
            let error = parse(&format!("{first}\n{COLUMNS}\n")).unwrap_err();
            assert!(
                matches!(error, (0, LineProblem::FileFormat { .. })),
                "{first}"
            );
        }
        for last in [
            "#CHROM\tPOS",
            &COLUMNS.replace('\t', " "),
            &format!("{COLUMNS}\tFORMAT\ta\ta"),
            &format!("{COLUMNS}\ta"),
        ] {
            let error = parse(&format!("##fileformat=VCFv4.2\n{last}\n")).unwrap_err();
            assert!(
                matches!(error, (1, LineProblem::ColumnLine { .. })),
                "{last}"
            );
        }
    }

    #[test]
    fn other_lines_are_warned_of_and_kept() {
        let text = format!(
            "##fileformat=VCFv4.2\n##INFO=<ID=DP>\n##odd\n##INFO=<ID=A,Number=1,Type=Integer,\
             Description=\"a\">\n##INFO=<ID=A,Number=1,Type=Integer,Description=\"b\">\n{COLUMNS}\n"
        );
        let header = parse(&text).unwrap();
        let starts: Vec<&str> = header.warnings().iter().map(|w| &w[..7]).collect();
        assert_eq!(starts, ["line 2:", "line 3:", "line 5:"]);
        assert!(header.warnings()[2].contains("duplicate INFO ID: A"));
        assert_eq!(header.lines().concat(), text.as_bytes());
    }
}
