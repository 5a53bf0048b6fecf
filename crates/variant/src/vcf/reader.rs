//! Reading a VCF line by line.

use std::io::BufRead;
use std::path::Path;

use cistron_genome::compression::{input_name, open_input};

use super::error::excerpt;
use super::header::is_column_line;
use super::{Header, LineProblem, Record, VcfError};

/// Reads records in file order, one line at a time.
pub struct Reader {
    input: Box<dyn BufRead + Send>,
    file: String,
    header: Header,
    line: u64,
}

impl Reader {
    /// Opens a plain, gzip or BGZF VCF and reads its header; `-` is standard input.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn open(path: &Path) -> Result<Self, VcfError> {
        Self::new(open_input(path)?, &input_name(path))
    }

    /// Reads the header of uncompressed VCF text; `file` is its name in messages.
    ///
    /// # Errors
    /// When the input cannot be read, is empty or BCF, or its header lacks the
    /// `##fileformat` or the `#CHROM` line.
    pub fn new(mut input: Box<dyn BufRead + Send>, file: &str) -> Result<Self, VcfError> {
        let file = file.to_owned();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        loop {
            let Some(line) = read_line(&mut input)? else {
                return Err(match lines.len() as u64 {
                    0 => VcfError::Empty { file },
                    line => VcfError::MissingColumnLine { file, line },
                });
            };
            if lines.is_empty() && line.starts_with(b"BCF\x02") {
                return Err(VcfError::Bcf { file });
            }
            if !line.starts_with(b"#") && !lines.is_empty() {
                let line_number = lines.len() as u64 + 1;
                let found = excerpt(&line);
                let problem = LineProblem::MissingColumns { found };
                return Err(at(&file, line_number, problem));
            }
            let is_last = is_column_line(&line) || !line.starts_with(b"#");
            lines.push(line);
            if is_last {
                break;
            }
        }
        let line = lines.len() as u64;
        let header =
            Header::parse(lines).map_err(|(i, problem)| at(&file, i as u64 + 1, problem))?;
        Ok(Self {
            input,
            file,
            header,
            line,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How messages call the input.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The next record, or nothing at the end of the input.
    ///
    /// # Errors
    /// When the input cannot be read or the line is not a record; the error names the line.
    pub fn next_record(&mut self) -> Result<Option<Record>, VcfError> {
        let Some(raw) = read_line(&mut self.input)? else {
            return Ok(None);
        };
        self.line += 1;
        let record = if raw.starts_with(b"#") {
            let found = excerpt(&raw);
            Err(LineProblem::HeaderAfterColumns { found })
        } else {
            Record::parse(raw, self.line, self.header.columns())
        };
        record
            .map(Some)
            .map_err(|problem| at(&self.file, self.line, problem))
    }
}

impl Iterator for Reader {
    type Item = Result<Record, VcfError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// The next line with its line ending.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = input.read_until(b'\n', &mut line)?;
    Ok((count > 0).then_some(line))
}

fn at(file: &str, line: u64, problem: LineProblem) -> VcfError {
    VcfError::Line {
        file: file.to_owned(),
        line,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    const HEADER: &str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    fn open(text: &[u8]) -> Result<Reader, VcfError> {
        Reader::new(Box::new(Cursor::new(text.to_vec())), "in.vcf")
    }

    fn message(text: &str) -> String {
        match open(text.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(mut reader) => reader.find_map(Result::err).unwrap().to_string(),
        }
    }

    #[test]
    fn every_byte_is_kept() {
        let text = format!(
            "{HEADER}c\t1\t.\tA\tC\t50.00\t.\t.\nc\t2\t.\tA\tC\t.\t.\tX\r\nc\t3\t.\ta\tC\t.\t.\t."
        );
        let reader = open(text.as_bytes()).unwrap();
        let mut out = reader.header().lines().concat();
        let records: Vec<Record> = reader.map(Result::unwrap).collect();
        out.extend(records.iter().flat_map(|record| record.raw()));
        assert_eq!(out, text.as_bytes());
        let lines: Vec<u64> = records.iter().map(Record::line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn a_header_alone_is_a_vcf() {
        assert_eq!(open(HEADER.as_bytes()).unwrap().count(), 0);
        assert_eq!(open(HEADER.trim_end().as_bytes()).unwrap().count(), 0);
    }

    #[test]
    fn headers_that_lack_a_line_are_refused() {
        assert!(message("").contains("in.vcf: the file is empty"));
        assert!(
            message("c\t1\t.\tA\tC\t.\t.\t.\n")
                .starts_with("in.vcf: line 1: expected ##fileformat")
        );
        assert!(message(">chr\nACGT\n").contains("line 1: expected ##fileformat"));
        let text = "##fileformat=VCFv4.2\nc\t1\t.\tA\tC\t.\t.\t.\n";
        assert!(message(text).contains("line 2: expected a header line or #CHROM"));
        let text = "##fileformat=VCFv4.2\n##source=x\n";
        assert!(message(text).contains("the header ends at line 2; a #CHROM"));
        let text = HEADER.replace("##fileformat=VCFv4.2\n", "");
        assert!(message(&text).contains("line 1: expected ##fileformat"));
        assert!(message("BCF\u{2}\u{2}").contains("bcftools view"));
    }

    #[test]
    fn a_wrong_record_names_its_line() {
        let text = format!("{HEADER}c\t1\t.\tA\tC\t.\t.\t.\nc\t1\t.\tA\tC\t.\n");
        assert!(message(&text).starts_with("in.vcf: line 4: 6 tab-separated columns"));
        let text = format!("{HEADER}\n");
        assert!(message(&text).starts_with("in.vcf: line 3: 1 tab-separated columns"));
        let text = format!("{HEADER}{HEADER}");
        assert!(message(&text).contains("line 3: header line \"##fileformat=VCFv4.2\""));
    }

    #[test]
    fn compressed_files_read_alike() {
        let text = format!("{HEADER}c\t1\t.\tA\tC\t.\t.\t.\n");
        let folder = tempfile::tempdir().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(text.as_bytes()).unwrap();
        let mut bgzf = noodles::bgzf::io::Writer::new(Vec::new());
        bgzf.write_all(text.as_bytes()).unwrap();
        for bytes in [
            text.clone().into_bytes(),
            gzip.finish().unwrap(),
            bgzf.finish().unwrap(),
        ] {
            let path = folder.path().join("any.name");
            std::fs::write(&path, bytes).unwrap();
            let records: Vec<Record> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!(records.len(), 1);
        }
        let error = Reader::open(&folder.path().join("none.vcf")).err().unwrap();
        assert!(error.to_string().contains("none.vcf"));
    }
}
