//! One record of a VCF.

use std::fmt;
use std::ops::Range;

use super::{LineProblem, body_len};

/// The eight fixed columns of a record (VCF 4.5, section 1.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Name of the contig.
    Chrom,
    /// 1-based position of the first base of REF; 0 is the telomere.
    Pos,
    /// Identifiers.
    Id,
    /// Reference allele.
    Ref,
    /// Alternate alleles, separated by commas.
    Alt,
    /// Quality.
    Qual,
    /// Filters.
    Filter,
    /// Annotations, separated by semicolons.
    Info,
}

const FIXED: usize = 8;
const COLUMNS: [Column; FIXED] = [
    Column::Chrom,
    Column::Pos,
    Column::Id,
    Column::Ref,
    Column::Alt,
    Column::Qual,
    Column::Filter,
    Column::Info,
];

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::Chrom => "CHROM",
            Column::Pos => "POS",
            Column::Id => "ID",
            Column::Ref => "REF",
            Column::Alt => "ALT",
            Column::Qual => "QUAL",
            Column::Filter => "FILTER",
            Column::Info => "INFO",
        })
    }
}

/// A record line as it stands in the file, and where its columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    raw: Vec<u8>,
    chrom: String,
    position: u64,
    ends: [usize; FIXED],
    line: u64,
}

impl Record {
    /// Takes a line with its line ending, the number of the line in its file, and the number
    /// of columns of the `#CHROM` line.
    ///
    /// # Errors
    /// When the line has another number of columns, a fixed column is empty, POS is not a
    /// number or CHROM is not UTF-8.
    pub fn parse(raw: Vec<u8>, line: u64, columns: usize) -> Result<Self, LineProblem> {
        let body = &raw[..body_len(&raw)];
        let mut ends = [0; FIXED];
        let mut found = 0;
        let mut end = 0;
        for column in body.split(|byte| *byte == b'\t') {
            end += column.len();
            if let Some(slot) = ends.get_mut(found) {
                *slot = end;
            }
            end += 1;
            found += 1;
        }
        if found != columns || found < FIXED {
            let expected = columns;
            return Err(LineProblem::Ragged { expected, found });
        }
        let empty = COLUMNS.iter().find(|c| span(&ends, **c).is_empty());
        if let Some(column) = empty {
            return Err(LineProblem::EmptyColumn { column: *column });
        }
        let lossy = |column| String::from_utf8_lossy(&body[span(&ends, column)]).into_owned();
        let position = parse_position(&body[span(&ends, Column::Pos)]).ok_or_else(|| {
            let found = lossy(Column::Pos);
            LineProblem::Position { found }
        })?;
        let chrom = String::from_utf8(body[span(&ends, Column::Chrom)].to_vec()).map_err(|_| {
            let found = lossy(Column::Chrom);
            LineProblem::Chrom { found }
        })?;
        Ok(Self {
            raw,
            chrom,
            position,
            ends,
            line,
        })
    }

    /// The whole line with its line ending.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Number of the line in its file, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The bytes of one of the fixed columns; never empty.
    pub fn column(&self, column: Column) -> &[u8] {
        &self.raw[span(&self.ends, column)]
    }

    /// Name of the contig.
    pub fn chrom(&self) -> &str {
        &self.chrom
    }

    /// 1-based position of the first base of REF; 0 and the contig's length + 1 are the
    /// telomeres.
    pub fn pos(&self) -> u64 {
        self.position
    }

    /// The REF column.
    pub fn ref_(&self) -> &[u8] {
        self.column(Column::Ref)
    }

    /// The items of the ALT column, in order; a lone `.` is one item.
    pub fn alts(&self) -> impl Iterator<Item = &[u8]> {
        self.column(Column::Alt).split(|byte| *byte == b',')
    }

    /// Whether ALT is other than `.`.
    pub fn has_alt(&self) -> bool {
        self.column(Column::Alt) != b"."
    }

    /// Where the INFO column lies in [`Record::raw`].
    pub fn info_range(&self) -> Range<usize> {
        span(&self.ends, Column::Info)
    }

    /// The INFO column.
    pub fn info(&self) -> &[u8] {
        self.column(Column::Info)
    }

    /// 1-based position of the last base of the record: `END` of INFO where that is a number
    /// not before POS, else that of the last base of REF.
    pub fn end(&self) -> u64 {
        let fields = self.info().split(|byte| *byte == b';');
        let end = fields
            .filter_map(|field| field.strip_prefix(b"END="))
            .next();
        end.and_then(parse_position)
            .filter(|end| *end >= self.position)
            .unwrap_or(self.position.saturating_add(self.ref_().len() as u64 - 1))
    }

    /// `CHROM:POS`, as messages name the place.
    pub fn place(&self) -> String {
        format!("{}:{}", self.chrom, self.position)
    }
}

/// Where a fixed column lies.
fn span(ends: &[usize; FIXED], column: Column) -> Range<usize> {
    let i = column as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] + 1 };
    start..ends[i]
}

/// A number written with digits alone.
fn parse_position(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok()?;
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, columns: usize) -> Result<Record, LineProblem> {
        Record::parse(line.as_bytes().to_vec(), 7, columns)
    }

    #[test]
    fn columns_are_found_whatever_the_line_ending() {
        for ending in ["\n", "\r\n", ""] {
            let line = format!("c 1\t12\trs\tACG\tA,<DEL>,*\t50.00\tPASS\tDP=3;F{ending}");
            let record = parse(&line, 8).unwrap();
            assert_eq!(record.raw(), line.as_bytes());
            assert_eq!(
                (record.chrom(), record.pos(), record.end()),
                ("c 1", 12, 14)
            );
            assert_eq!(record.ref_(), b"ACG");
            let alts: Vec<&[u8]> = record.alts().collect();
            assert_eq!(alts, [&b"A"[..], b"<DEL>", b"*"]);
            assert_eq!(record.column(Column::Qual), b"50.00");
            assert_eq!(record.info(), b"DP=3;F");
            assert_eq!(record.place(), "c 1:12");
            assert_eq!(record.line(), 7);
        }
        let record = parse("c\t1\t.\tA\t.\t.\t.\tX\tGT\t0", 10).unwrap();
        assert_eq!(&record.raw()[record.info_range()], b"X");
        assert!(!record.has_alt());
        assert_eq!(record.alts().count(), 1);
    }

    #[test]
    fn ragged_lines_are_refused() {
        for (line, columns, found) in [
            ("c\t1\t.\tA\tC\t.\t.", 8, 7),
            ("c\t1\t.\tA\tC\t.\t.", 7, 7),
            ("c\t1\t.\tA\tC\t.\t.\t.\tGT", 8, 9),
            ("", 8, 1),
        ] {
            let expected = columns;
            let problem = LineProblem::Ragged { expected, found };
            assert_eq!(parse(line, columns).unwrap_err(), problem);
        }
    }

    #[test]
    fn empty_columns_are_refused() {
        for i in 0..8 {
            let mut columns = ["c", "1", ".", "A", "C", ".", ".", "DP=1"];
            columns[i] = "";
            let column = COLUMNS[i];
            let problem = LineProblem::EmptyColumn { column };
            assert_eq!(parse(&columns.join("\t"), 8).unwrap_err(), problem);
        }
    }

    #[test]
    fn positions_are_whole_numbers_from_zero() {
        let at = |pos: &str| parse(&format!("c\t{pos}\t.\tA\tC\t.\t.\t."), 8);
        assert_eq!(at("0").unwrap().pos(), 0);
        assert_eq!(at("18446744073709551615").unwrap().end(), u64::MAX);
        for pos in ["-1", "+1", "1.0", "x", ".", "18446744073709551616", "1 "] {
            let problem = at(pos).unwrap_err();
            assert!(matches!(problem, LineProblem::Position { .. }), "{pos}");
        }
    }

    #[test]
    fn end_of_info_counts() {
        let end = |info: &str| {
            parse(&format!("c\t5\t.\tAC\t<DEL>\t.\t.\t{info}"), 8)
                .unwrap()
                .end()
        };
        assert_eq!(end("SVTYPE=DEL;END=90"), 90);
        assert_eq!(end("CIEND=9"), 6);
        assert_eq!(end("END=4"), 6);
        assert_eq!(end("END=."), 6);
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let line = b"\xff\t1\t.\tA\tC\t.\t.\t.".to_vec();
        let problem = Record::parse(line, 1, 8).unwrap_err();
        assert!(matches!(problem, LineProblem::Chrom { .. }));
    }
}
