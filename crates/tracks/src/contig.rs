//! The contigs of a track, and the place that the data has reached in them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use cistron_genome::coord::ContigName;

use crate::TrackError;

/// Name and length of a contig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContigSize {
    /// The name, as in the FASTA file.
    pub name: ContigName,
    /// Number of bases.
    pub length: u64,
}

impl ContigSize {
    /// A contig `name` of `length` bases.
    pub fn new(name: impl Into<ContigName>, length: u64) -> Self {
        Self {
            name: name.into(),
            length,
        }
    }
}

/// What a format can address.
pub(crate) struct Limits {
    pub format: &'static str,
    pub contigs: usize,
    pub length: u64,
}

/// The place that the data has reached: contigs in the order given, each from its first
/// base to its last. Contigs of no length need no data.
pub(crate) struct Cursor {
    path: PathBuf,
    contigs: Vec<ContigSize>,
    /// Index of the contig that the last data belonged to; `None` at the very start.
    current: Option<usize>,
    /// Bases of the current contig that have data.
    offset: u64,
}

impl Cursor {
    /// Checks names, lengths and number of `contigs` of the track at `path`.
    pub fn new(path: &Path, contigs: &[ContigSize], limits: &Limits) -> Result<Self, TrackError> {
        let mut seen = HashSet::new();
        let path = path.to_path_buf();
        for contig in contigs {
            let name = contig.name.to_string();
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(TrackError::ContigName { path, contig: name });
            }
            if contig.length > limits.length {
                return Err(TrackError::ContigLength {
                    path,
                    contig: name,
                    length: contig.length,
                    limit: limits.length,
                    format: limits.format,
                });
            }
            if !seen.insert(contig.name.as_str()) {
                return Err(TrackError::DuplicateContig { path, contig: name });
            }
        }
        if contigs.len() > limits.contigs {
            return Err(TrackError::ContigCount {
                path,
                count: contigs.len(),
                limit: limits.contigs,
                format: limits.format,
            });
        }
        Ok(Self {
            path,
            contigs: contigs.to_vec(),
            current: None,
            offset: 0,
        })
    }

    /// All contigs in the order given.
    pub fn contigs(&self) -> &[ContigSize] {
        &self.contigs
    }

    /// The output file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes `count` further bases of `contig`; the result is their first base (zero-based).
    pub fn advance(&mut self, contig: &str, count: u64) -> Result<u64, TrackError> {
        let start = self.enter(contig)?;
        let length = self.current_contig().map_or(0, |c| c.length);
        if count > length - start {
            return Err(TrackError::PastEnd {
                path: self.path.clone(),
                contig: contig.to_owned(),
                position: length + 1,
                length,
            });
        }
        self.offset = start + count;
        Ok(start)
    }

    /// Zero-based index of the next base of `contig` without data.
    pub fn enter(&mut self, contig: &str) -> Result<u64, TrackError> {
        if self.is_current(contig) {
            return Ok(self.offset);
        }
        self.require_complete()?;
        let first = self.next_index();
        // Contigs of no length may be passed over, up to and including one with bases.
        let skipped = self.contigs[first..]
            .iter()
            .take_while(|c| c.length == 0 && c.name != *contig)
            .count();
        match self.contigs.get(first + skipped) {
            Some(next) if next.name == *contig => {
                self.current = Some(first + skipped);
                self.offset = 0;
                Ok(0)
            }
            next => Err(TrackError::UnexpectedContig {
                path: self.path.clone(),
                contig: contig.to_owned(),
                expected: match next {
                    Some(next) => format!("`{}`, the next in the order given", next.name),
                    None => "no more, every contig has its data".to_owned(),
                },
            }),
        }
    }

    /// Whether the last data belonged to `contig`.
    pub fn is_current(&self, contig: &str) -> bool {
        self.current_contig().is_some_and(|c| c.name == *contig)
    }

    /// Checks that every contig has all its data.
    pub fn finish(&self) -> Result<(), TrackError> {
        self.require_complete()?;
        let rest = &self.contigs[self.next_index()..];
        match rest.iter().find(|c| c.length > 0) {
            Some(contig) => Err(self.unfinished(contig, 0)),
            None => Ok(()),
        }
    }

    fn current_contig(&self) -> Option<&ContigSize> {
        self.current.and_then(|index| self.contigs.get(index))
    }

    fn next_index(&self) -> usize {
        self.current.map_or(0, |index| index + 1)
    }

    fn require_complete(&self) -> Result<(), TrackError> {
        match self.current_contig() {
            Some(contig) if self.offset < contig.length => {
                Err(self.unfinished(contig, self.offset))
            }
            _ => Ok(()),
        }
    }

    fn unfinished(&self, contig: &ContigSize, got: u64) -> TrackError {
        TrackError::Unfinished {
            path: self.path.clone(),
            contig: contig.name.to_string(),
            got,
            length: contig.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        format: "a test",
        contigs: 4,
        length: 100,
    };

    fn cursor(contigs: &[(&str, u64)]) -> Result<Cursor, TrackError> {
        let contigs: Vec<_> = contigs
            .iter()
            .map(|&(name, length)| ContigSize::new(name, length))
            .collect();
        Cursor::new(Path::new("x.bw"), &contigs, &LIMITS)
    }

    fn message<T>(result: Result<T, TrackError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn data_comes_in_order_and_fills_every_contig() {
        let mut c = cursor(&[("a", 3), ("empty", 0), ("b", 2)]).unwrap();
        assert_eq!(c.advance("a", 2).unwrap(), 0);
        assert_eq!(c.advance("a", 1).unwrap(), 2);
        assert_eq!(c.advance("b", 1).unwrap(), 0);
        assert_eq!(
            message(c.finish()),
            "x.bw: contig `b` got data for 1 of 2 bases"
        );
        assert_eq!(c.advance("b", 1).unwrap(), 1);
        c.finish().unwrap();
    }

    #[test]
    fn contigs_without_bases_need_no_data_but_may_be_named() {
        cursor(&[("e", 0), ("f", 0)]).unwrap().finish().unwrap();
        cursor(&[]).unwrap().finish().unwrap();
        let mut c = cursor(&[("e", 0), ("a", 1), ("f", 0)]).unwrap();
        c.advance("e", 0).unwrap();
        c.advance("a", 1).unwrap();
        c.advance("f", 0).unwrap();
        c.finish().unwrap();
        assert_eq!(
            message(c.advance("f", 1)),
            "x.bw: f:1: data past the contig's end, it has 0 bases"
        );
    }

    #[test]
    fn errors_name_the_place() {
        let mut c = cursor(&[("a", 3), ("b", 2)]).unwrap();
        assert_eq!(
            message(c.advance("b", 1)),
            "x.bw: data for contig `b`, expected `a`, the next in the order given"
        );
        assert_eq!(
            message(c.advance("a", 4)),
            "x.bw: a:4: data past the contig's end, it has 3 bases"
        );
        c.advance("a", 2).unwrap();
        assert_eq!(
            message(c.advance("b", 1)),
            "x.bw: contig `a` got data for 2 of 3 bases"
        );
        c.advance("a", 1).unwrap();
        c.advance("b", 2).unwrap();
        assert_eq!(
            message(c.advance("a", 1)),
            "x.bw: data for contig `a`, expected no more, every contig has its data"
        );
        let c = cursor(&[("a", 3)]).unwrap();
        assert_eq!(
            message(c.finish()),
            "x.bw: contig `a` got data for 0 of 3 bases"
        );
    }

    #[test]
    fn contigs_that_the_format_cannot_hold_are_refused() {
        assert!(message(cursor(&[("a", 1), ("a", 2)])).contains("`a` is listed twice"));
        assert!(message(cursor(&[("a b", 1)])).contains("\"a b\""));
        assert!(message(cursor(&[("", 1)])).contains("is empty"));
        assert!(message(cursor(&[("a", 101)])).contains("101 bases, more than the 100"));
        let many = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];
        assert!(message(cursor(&many)).contains("5 contigs, more than the 4"));
    }
}
