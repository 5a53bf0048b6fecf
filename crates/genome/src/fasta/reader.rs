//! The streaming reader. Memory does not grow with the length of a contig, and every
//! error has a line number; both are why records are not taken from a parser that
//! returns them whole.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use super::FastaError;
use super::letters::{BAD, BASES, SKIP, guess_from_letter, guess_from_start};
use crate::compression::{input_name, open_input};
use crate::coord::ContigName;

/// Bases gathered before a piece is handed out.
const PIECE: usize = 1 << 16;

/// The first line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first word.
    pub name: ContigName,
    /// What follows the space after the name; may be empty. White space at the end is cut.
    pub description: String,
    /// Line of the header, from one.
    pub line: u64,
}

/// A part of a FASTA file.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A record begins.
    Header(Header),
    /// Some more bases of the record, in upper case; never empty.
    Bases(&'a [u8]),
}

/// Reads a FASTA file piece by piece.
pub struct Reader<R> {
    inner: R,
    state: State,
    names: HashMap<ContigName, u64>,
}

/// All but the input itself, so that a slice of the input's buffer can be worked on.
struct State {
    file: String,
    /// Number of the line that comes or is under way, from one.
    line: u64,
    at_line_start: bool,
    contig: Option<ContigName>,
    /// Bases on the record's first sequence line so far.
    line_width: usize,
    first_line_done: bool,
    bases: Vec<u8>,
}

impl Reader<Box<dyn BufRead + Send>> {
    /// Opens a plain, gzip or BGZF file; `-` is standard input.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FastaError> {
        Ok(Self::new(open_input(path)?, input_name(path)))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from `inner`; messages call it `file`.
    pub fn new(inner: R, file: String) -> Self {
        Self {
            inner,
            state: State {
                file,
                line: 1,
                at_line_start: true,
                contig: None,
                line_width: 0,
                first_line_done: false,
                bases: Vec::with_capacity(PIECE),
            },
            names: HashMap::new(),
        }
    }

    /// The next header or bases; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read, holds no record, or is not nucleotide FASTA with
    /// distinct names.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'_>>, FastaError> {
        self.state.bases.clear();
        while self.state.bases.len() < PIECE {
            let chunk = self.inner.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            if self.state.at_line_start && chunk[0] == b'>' {
                if !self.state.bases.is_empty() {
                    break;
                }
                return self.read_header().map(|header| Some(Piece::Header(header)));
            }
            let used = self.state.take_lines(chunk)?;
            self.inner.consume(used);
        }
        if self.names.is_empty() {
            let file = self.state.file.clone();
            return Err(FastaError::Empty { file });
        }
        let bases = &self.state.bases;
        Ok((!bases.is_empty()).then_some(Piece::Bases(bases)))
    }

    /// Bases on the first sequence line of the record under way; 0 before there are any.
    pub fn line_width(&self) -> usize {
        self.state.line_width
    }

    fn read_header(&mut self) -> Result<Header, FastaError> {
        let mut text = Vec::new();
        self.inner.read_until(b'\n', &mut text)?;
        let line = self.state.line;
        self.state.line += 1;
        let text = text[1..].trim_ascii_end();
        let end = text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let file = || self.state.file.clone();
        if name.is_empty() {
            return Err(FastaError::MissingName { file: file(), line });
        }
        let name = ContigName::from(String::from_utf8_lossy(name).into_owned());
        if let Some(&first) = self.names.get(&name) {
            return Err(FastaError::DuplicateContig {
                file: file(),
                line,
                name,
                first,
            });
        }
        self.names.insert(name.clone(), line);
        self.state.contig = Some(name.clone());
        self.state.line_width = 0;
        self.state.first_line_done = false;
        let description = rest.strip_prefix(b" ").unwrap_or(rest);
        Ok(Header {
            name,
            description: String::from_utf8_lossy(description).into_owned(),
            line,
        })
    }
}

impl State {
    /// Takes sequence lines from `chunk` up to a header or until a piece is full. Returns
    /// the number of bytes used.
    fn take_lines(&mut self, chunk: &[u8]) -> Result<usize, FastaError> {
        let mut used = 0;
        while used < chunk.len() && self.bases.len() < PIECE {
            let rest = &chunk[used..];
            if self.at_line_start && rest[0] == b'>' {
                break;
            }
            let end = memchr::memchr(b'\n', rest);
            let text = &rest[..end.unwrap_or(rest.len())];
            let before = self.bases.len();
            self.take_bases(text.strip_suffix(b"\r").unwrap_or(text))?;
            if !self.first_line_done {
                self.line_width += self.bases.len() - before;
                self.first_line_done = end.is_some() && self.line_width > 0;
            }
            used += text.len() + usize::from(end.is_some());
            self.at_line_start = end.is_some();
            self.line += u64::from(end.is_some());
        }
        Ok(used)
    }

    fn take_bases(&mut self, text: &[u8]) -> Result<(), FastaError> {
        let from = self.bases.len();
        let mut seen = 0;
        self.bases.extend(text.iter().map(|&letter| {
            let base = BASES[usize::from(letter)];
            seen |= base;
            base
        }));
        if seen < SKIP && (self.contig.is_some() || text.is_empty()) {
            return Ok(());
        }
        let bad = self.bases[from..].iter().position(|&base| base == BAD);
        let Some(contig) = &self.contig else {
            self.bases.truncate(from);
            return self.expect_blank(text);
        };
        if let Some(bad) = bad {
            return Err(FastaError::NotNucleotide {
                file: self.file.clone(),
                line: self.line,
                contig: contig.clone(),
                letter: char::from(text[bad]),
                hint: guess_from_letter(text[bad]),
            });
        }
        let mut kept = from;
        for i in from..self.bases.len() {
            self.bases[kept] = self.bases[i];
            kept += usize::from(self.bases[i] != SKIP);
        }
        self.bases.truncate(kept);
        Ok(())
    }

    /// Only blank lines may stand before the first header.
    fn expect_blank(&self, text: &[u8]) -> Result<(), FastaError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        let start: String = String::from_utf8_lossy(text).chars().take(20).collect();
        Err(FastaError::NotFasta {
            file: self.file.clone(),
            line: self.line,
            found: start,
            hint: guess_from_start(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    /// Name, description, line width and bases.
    type Record = (String, String, usize, Vec<u8>);

    /// The records of `text`, read through a buffer of `buffer` bytes.
    fn records(text: &[u8], buffer: usize) -> Result<Vec<Record>, FastaError> {
        let input = BufReader::with_capacity(buffer, text);
        let mut reader = Reader::new(input, "x.fna".to_owned());
        let mut records: Vec<Record> = Vec::new();
        loop {
            match reader.next_piece()? {
                None => return Ok(records),
                Some(Piece::Header(header)) => {
                    let name = header.name.to_string();
                    records.push((name, header.description, 0, Vec::new()));
                }
                Some(Piece::Bases(bases)) => {
                    let bases = bases.to_vec();
                    let record = records.last_mut().unwrap();
                    record.3.extend(bases);
                    record.2 = reader.line_width();
                }
            }
        }
    }

    fn message(text: &[u8]) -> String {
        records(text, 64).unwrap_err().to_string()
    }

    #[test]
    fn the_odd_things_files_hold() {
        let text = b"\r\n>a  two words \r\nacgU\r\n\r\nRYn-\r\n>empty\n\n>b\tx\nAC GT\tA";
        let expected = vec![
            ("a".into(), " two words".into(), 4, b"ACGTRYN-".to_vec()),
            ("empty".into(), String::new(), 0, Vec::new()),
            ("b".into(), "\tx".into(), 5, b"ACGTA".to_vec()),
        ];
        for buffer in [1, 2, 3, 7, 1000] {
            assert_eq!(records(text, buffer).unwrap(), expected);
        }
    }

    #[test]
    fn bad_files_are_told_apart() {
        assert!(message(b"").contains("x.fna: empty FASTA file"));
        assert!(message(b"\n \n").contains("empty FASTA file"));
        assert!(message(b"\n@read\nACGT\n").contains("x.fna, line 2: expected a FASTA header"));
        assert!(message(b"@read\nACGT\n").contains("FASTQ"));
        assert!(message(b"##gff-version 3\n").contains("GFF3"));
        assert!(message(b">a\nAC\n> b\nAC").contains("line 3: a FASTA header without a name"));
        let text = message(b">a\nAC\n>b\nA\n>a x\nC\n");
        assert!(
            text.contains("line 5: contig \"a\" appeared before on line 1"),
            "{text}"
        );
    }

    #[test]
    fn a_header_begins_its_line() {
        for buffer in [1, 2, 5, 1000] {
            let message = records(b">a\nAC>b\nAC\n", buffer).unwrap_err().to_string();
            assert!(
                message.contains("line 2: contig \"a\" holds '>'"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_protein_is_refused_with_line_and_letter() {
        let text = message(b">a\nACGT\n>p\nMKV\nALWE\n");
        assert!(
            text.contains("x.fna, line 5: contig \"p\" holds 'L'"),
            "{text}"
        );
        assert!(text.contains("protein"), "{text}");
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let text = [b">a\n".to_vec(), b"acgt".repeat(PIECE), b"\n".to_vec()].concat();
        let mut reader = Reader::new(BufReader::new(text.as_slice()), String::new());
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            if let Piece::Bases(bases) = piece {
                pieces.push(bases.len());
            }
        }
        assert_eq!(pieces.iter().sum::<usize>(), 4 * PIECE);
        assert!(pieces.iter().all(|&len| len <= PIECE + (1 << 14)));
        assert_eq!(reader.line_width(), 4 * PIECE);
    }

    proptest! {
        #[test]
        fn buffers_of_any_size_read_alike(
            text in "(>[ab]{1,3} ?[xy]{0,2}\r?\n([ACGTNacgtuRy-]{0,9}\r?\n){0,4}){1,3}",
            buffer in 1usize..40,
        ) {
            let whole = records(text.as_bytes(), 10_000).map_err(|error| error.to_string());
            let parts = records(text.as_bytes(), buffer).map_err(|error| error.to_string());
            prop_assert_eq!(whole, parts);
        }
    }
}
