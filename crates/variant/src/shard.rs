//! A part of a VCF's records, so that many machines can score one file.
//!
//! Part `I/N` of `total` records holds those from `total * (I - 1) / N` up to `total * I / N`,
//! counted from 0: contiguous, in file order, and of equal size but for one record. A part that
//! was scored says which it is in a header line, by which [`gather`](crate::gather) knows its
//! place.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::vcf::Header;

/// Key of the header line that names a part.
pub const KEY: &str = "cistron_shard";

/// One of several parts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

/// A text that is no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected I/N with I from 1 to N, such as 2/8")]
pub struct ShardError(String);

impl Shard {
    /// Number of this part, from 1.
    pub fn number(self) -> u64 {
        self.number
    }

    /// Number of all parts.
    pub fn of(self) -> u64 {
        self.of
    }

    /// The records of this part, counted from 0, when there are `total`.
    pub fn range(self, total: u64) -> Range<u64> {
        // Never above `total`, so it fits.
        let end =
            |number: u64| (u128::from(total) * u128::from(number) / u128::from(self.of)) as u64;
        end(self.number - 1)..end(self.number)
    }

    /// The header line, without a line ending.
    pub fn header_line(self) -> String {
        format!("##{KEY}={self}")
    }

    /// The part that a header names, if it names one.
    pub fn of_header(header: &Header) -> Option<Self> {
        let lines = header.lines().iter().filter(|line| is_shard_line(line));
        let value = |line: &Vec<u8>| {
            let text = String::from_utf8_lossy(line);
            text.trim_end().split_once('=')?.1.parse().ok()
        };
        lines.filter_map(value).next()
    }
}

/// Whether a header line names a part.
pub fn is_shard_line(line: &[u8]) -> bool {
    line.strip_prefix(b"##")
        .and_then(|line| line.strip_prefix(KEY.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"="))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parsed = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        });
        parsed.ok_or_else(|| ShardError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_and_written() {
        let shard: Shard = "2/8".parse().unwrap();
        assert_eq!((shard.number(), shard.of()), (2, 8));
        assert_eq!(shard.header_line(), "##cistron_shard=2/8");
        for text in ["", "2", "0/8", "9/8", "1/0", "a/b", "-1/8", "1/8/2"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("expected I/N"), "{error}");
        }
    }

    #[test]
    fn a_header_names_its_part() {
        let columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
        let header = |middle: &str| {
            let text = format!("##fileformat=VCFv4.2\n{middle}{columns}");
            let lines = text.split_inclusive('\n').map(|l| l.as_bytes().to_vec());
            Header::parse(lines.collect()).unwrap()
        };
        assert_eq!(Shard::of_header(&header("")), None);
        assert_eq!(Shard::of_header(&header("##cistron_shards=1/2\n")), None);
        let found = Shard::of_header(&header("##cistron_shard=3/4\r\n")).unwrap();
        assert_eq!(found.to_string(), "3/4");
    }

    proptest! {
        #[test]
        fn parts_tile_the_records(total in 0u64..10_000, of in 1u64..200) {
            let mut next = 0;
            for number in 1..=of {
                let range = Shard { number, of }.range(total);
                prop_assert_eq!(range.start, next);
                let length = range.end - range.start;
                prop_assert!(length == total / of || length == total / of + 1);
                next = range.end;
            }
            prop_assert_eq!(next, total);
        }
    }
}
