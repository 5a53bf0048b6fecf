//! What can be wrong with a VCF.

use std::io;

use super::Column;

/// Failure to read a VCF.
#[derive(Debug, thiserror::Error)]
pub enum VcfError {
    /// The input cannot be opened or read; the message names it.
    #[error(transparent)]
    Input(#[from] io::Error),
    /// The input holds no bytes.
    #[error("{file}: the file is empty; a VCF begins with ##fileformat=VCFv4.x")]
    Empty {
        /// The input.
        file: String,
    },
    /// The input is BCF.
    #[error("{file}: this is BCF; convert it with `bcftools view -O z -o OUT.vcf.gz {file}`")]
    Bcf {
        /// The input.
        file: String,
    },
    /// The input ends within the header.
    #[error("{file}: the header ends at line {line}; a #CHROM line must end it")]
    MissingColumnLine {
        /// The input.
        file: String,
        /// Number of the last line.
        line: u64,
    },
    /// A line is not what VCF demands there.
    #[error("{file}: line {line}: {problem}")]
    Line {
        /// The input.
        file: String,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong.
        problem: LineProblem,
    },
}

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// The first line is not a `##fileformat` line that can be understood.
    #[error(
        "expected ##fileformat=VCFv4.x, found {found:?}; is it a VCF? If so, put that line first"
    )]
    FileFormat {
        /// The beginning of the line.
        found: String,
    },
    /// A record came before the `#CHROM` line.
    #[error(
        "expected a header line or #CHROM, found {found:?}; a #CHROM line must come before \
         the first record (`bcftools reheader -h HEADER` puts a header there)"
    )]
    MissingColumns {
        /// The beginning of the line.
        found: String,
    },
    /// The `#CHROM` line does not name the columns of VCF.
    #[error(
        "#CHROM line: {reason}; expected #CHROM POS ID REF ALT QUAL FILTER INFO, then FORMAT \
         and distinct sample names, separated by tabs"
    )]
    ColumnLine {
        /// What was found.
        reason: String,
    },
    /// A record has more or fewer columns than the header.
    #[error(
        "{found} tab-separated columns where the #CHROM line has {expected}; mend or remove \
         the line"
    )]
    Ragged {
        /// Number of columns of the `#CHROM` line.
        expected: usize,
        /// Number of columns of the record.
        found: usize,
    },
    /// One of the eight fixed columns is empty.
    #[error("column {column} is empty; a missing value is written `.`")]
    EmptyColumn {
        /// Which.
        column: Column,
    },
    /// POS is not a number.
    #[error("POS is {found:?}; expected a whole number from 0")]
    Position {
        /// What was found.
        found: String,
    },
    /// CHROM is not UTF-8.
    #[error("CHROM is {found:?}, which is not UTF-8")]
    Chrom {
        /// What was found, with replacement characters.
        found: String,
    },
    /// A header line came after the `#CHROM` line.
    #[error("header line {found:?} after the #CHROM line; join VCF files with `bcftools concat`")]
    HeaderAfterColumns {
        /// The beginning of the line.
        found: String,
    },
}

/// The beginning of a line, as a message shows it.
pub(super) fn excerpt(line: &[u8]) -> String {
    const SHOWN: usize = 40;
    let body = &line[..super::body_len(line)];
    String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned()
}
