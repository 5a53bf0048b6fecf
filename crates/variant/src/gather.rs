//! Parts of a scored VCF put together again.
//!
//! The result is the file that one run over all records would have written, byte for byte: lines
//! are copied as they are, and [`VcfWriter`] compresses them as it does for one run.

use std::path::{Path, PathBuf};

use crate::shard::{Shard, is_shard_line};
use crate::vcf::{Header, Reader, VcfError};
use crate::writer::{VcfWriter, WriteError};

/// Parts that do not make one file.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A part cannot be read.
    #[error(transparent)]
    Read(#[from] VcfError),
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A header differs from that of the first part.
    #[error(
        "{file}: header line {line} is {found:?}, where {first} has {expected:?}; give the parts \
         of one run, all scored with the same options"
    )]
    Header {
        /// The part.
        file: String,
        /// The first part.
        first: String,
        /// Number of the line, from 1, the line that names the part not counted.
        line: usize,
        /// The line of the first part.
        expected: String,
        /// The line of this part.
        found: String,
    },
    /// A part is missing, comes twice, or is of another number of parts.
    #[error("{file}: expected part {expected}, found {found}; give every part of one run once")]
    Part {
        /// The file in that part's place.
        file: String,
        /// The part that was expected.
        expected: String,
        /// The part that it is.
        found: String,
    },
}

/// Writes the records of all parts one after another, under the header that they share, and
/// returns their number. Parts that name themselves are put into their order and must be
/// complete; others stay in the order given.
///
/// # Errors
/// When a part cannot be read, headers differ, or a part is missing or comes twice.
pub fn gather(parts: &[PathBuf], mut writer: VcfWriter) -> Result<u64, GatherError> {
    let parts = in_order(parts)?;
    let mut first: Option<(String, Vec<Vec<u8>>)> = None;
    let mut records = 0;
    let mut ended = true;
    let mut ending = "\n";
    for path in &parts {
        let mut reader = Reader::open(path)?;
        let lines = shared_lines(reader.header());
        match &first {
            None => {
                ending = reader.header().line_ending();
                writer.write_header(&lines.concat())?;
                first = Some((reader.file().to_owned(), lines));
            }
            Some((file, expected)) => same_header(file, expected, reader.file(), &lines)?,
        }
        while let Some(record) = reader.next_record()? {
            if !ended {
                writer.write_header(ending.as_bytes())?;
            }
            writer.write_record(&record, record.raw())?;
            ended = record.raw().ends_with(b"\n");
            records += 1;
        }
    }
    writer.finish()?;
    Ok(records)
}

/// The parts by their numbers, where they have numbers.
fn in_order(parts: &[PathBuf]) -> Result<Vec<&Path>, GatherError> {
    let mut numbered = Vec::new();
    for path in parts {
        let reader = Reader::open(path)?;
        numbered.push((Shard::of_header(reader.header()), path.as_path()));
    }
    if numbered.iter().any(|(shard, _)| shard.is_some()) {
        numbered.sort_by_key(|(shard, _)| shard.map(|shard| (shard.of(), shard.number())));
        let of = numbered
            .iter()
            .find_map(|(shard, _)| *shard)
            .map_or(0, Shard::of);
        let places = 1..=of.max(numbered.len() as u64);
        let mut found = numbered.iter();
        for number in places {
            let next = found.next();
            let shard = next.and_then(|(shard, _)| *shard);
            let fits = |shard: Shard| shard.number() == number && shard.of() == of;
            if !shard.is_some_and(fits) {
                let last = numbered.last().map(|(_, path)| *path);
                let path = next.map(|(_, path)| *path).or(last);
                return Err(GatherError::Part {
                    file: path.unwrap_or(Path::new("")).display().to_string(),
                    expected: format!("{number}/{of}"),
                    found: match (next, shard) {
                        (None, _) => "no more parts".into(),
                        (_, Some(shard)) => format!("part {shard}"),
                        (_, None) => "a file that names no part".into(),
                    },
                });
            }
        }
    }
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// The header without the line that names the part.
fn shared_lines(header: &Header) -> Vec<Vec<u8>> {
    let lines = header.lines().iter();
    lines.filter(|line| !is_shard_line(line)).cloned().collect()
}

fn same_header(
    first: &str,
    expected: &[Vec<u8>],
    file: &str,
    found: &[Vec<u8>],
) -> Result<(), GatherError> {
    let longer = expected.len().max(found.len());
    let differs = (0..longer).find(|&i| expected.get(i) != found.get(i));
    let text = |lines: &[Vec<u8>], i: usize| {
        let line = lines.get(i).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(line).trim_end().to_owned()
    };
    match differs {
        None => Ok(()),
        Some(i) => Err(GatherError::Header {
            file: file.to_owned(),
            first: first.to_owned(),
            line: i + 1,
            expected: text(expected, i),
            found: text(found, i),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::WriterOptions;

    const COLUMNS: &str = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    fn part(folder: &Path, name: &str, meta: &str, records: &str) -> PathBuf {
        let path = folder.join(name);
        let text = format!("##fileformat=VCFv4.2\n{meta}{COLUMNS}{records}");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(folder: &Path, parts: &[PathBuf]) -> Result<String, GatherError> {
        let out = folder.join("out.vcf");
        let _absent = std::fs::remove_file(&out);
        gather(parts, VcfWriter::create(&out, WriterOptions::default())?)?;
        Ok(std::fs::read_to_string(&out).unwrap())
    }

    const A: &str = "c\t1\t.\tA\tC\t.\t.\t.\n";
    const B: &str = "c\t2\t.\tA\tC\t.\t.\tX=1";

    #[test]
    fn numbered_parts_are_put_into_order() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "##cistron_shard=1/3\n",
            "##cistron_shard=2/3\n",
            "##cistron_shard=3/3\n",
        ];
        let one = part(folder.path(), "1.vcf", names[0], A);
        let two = part(folder.path(), "2.vcf", names[1], "");
        let three = part(folder.path(), "3.vcf", names[2], B);
        let whole = format!("##fileformat=VCFv4.2\n{COLUMNS}{A}{B}");
        let parts = [three.clone(), one.clone(), two.clone()];
        assert_eq!(run(folder.path(), &parts).unwrap(), whole);
        for wrong in [
            vec![one.clone(), two.clone()],
            vec![one.clone(), two.clone(), two.clone(), three.clone()],
            vec![one.clone(), three.clone()],
            vec![one, two, part(folder.path(), "4.vcf", "", A), three],
        ] {
            let error = run(folder.path(), &wrong).unwrap_err().to_string();
            assert!(error.contains("expected part"), "{error}");
            assert!(!folder.path().join("out.vcf").exists());
        }
    }

    #[test]
    fn parts_without_numbers_stay_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let one = part(folder.path(), "1.vcf", "", B);
        let two = part(folder.path(), "2.vcf", "", A);
        let whole = format!("##fileformat=VCFv4.2\n{COLUMNS}{B}\n{A}");
        assert_eq!(run(folder.path(), &[one, two]).unwrap(), whole);
    }

    #[test]
    fn headers_must_be_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let one = part(folder.path(), "1.vcf", "##x=1\n", A);
        let two = part(folder.path(), "2.vcf", "##x=2\n", A);
        let error = run(folder.path(), &[one, two]).unwrap_err().to_string();
        assert!(
            error.contains("2.vcf: header line 2 is \"##x=2\", where") && error.contains("##x=1"),
            "{error}"
        );
        assert!(!folder.path().join("out.vcf").exists());
    }
}
