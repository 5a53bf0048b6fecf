//! The annotation beside the tracks: sorted GFF3 in BGZF with a tabix index.
//!
//! Lines keep every column as they were. Contigs come in the order given, features by start,
//! longer ones first. A gene with an essentiality score gains the attribute `ess_score`, in
//! nats. A feature across the origin of a circular contig becomes two lines with its
//! attributes, as an index cannot reach past a contig's end.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::path::Path;

use cistron_genome::compression::{input_name, open_input};

use crate::bgzip::{TABIX_LENGTH, TabixWriter};
use crate::contig::{Cursor, Limits};
use crate::{ContigSize, TrackError};

const LIMITS: Limits = Limits {
    format: "a tabix index",
    contigs: usize::MAX,
    length: TABIX_LENGTH,
};

/// Essentiality scores by locus tag, in nats.
pub type Scores = HashMap<String, f64>;

/// A line with its place.
struct Line {
    contig: usize,
    /// Zero-based, half-open.
    start: u64,
    end: u64,
    text: Vec<u8>,
}

/// Writes the features of the GFF3 file `annotation` that lie on `contigs` to `path`, which
/// should end in `.gff3.gz`. The result is the number of features that gained a score.
///
/// # Errors
/// The annotation cannot be read or has a line that is no feature, or the folder cannot be
/// written to.
pub fn write(
    path: &Path,
    annotation: &Path,
    contigs: &[ContigSize],
    scores: &Scores,
) -> Result<usize, TrackError> {
    let io = |error| TrackError::io(path, error);
    Cursor::new(path, contigs, &LIMITS)?;
    let mut scored = 0;
    let mut lines = read(annotation, contigs, scores, &mut scored)?;
    lines.sort_by_key(|line| (line.contig, line.start, u64::MAX - line.end));
    let mut writer = TabixWriter::gff(path).map_err(io)?;
    let mut write = || -> io::Result<()> {
        writer.write_header(b"##gff-version 3\n")?;
        for line in &lines {
            let contig = contigs[line.contig].name.as_str();
            writer.write(contig, line.start, line.end, &line.text)?;
        }
        Ok(())
    };
    write().and_then(|()| writer.finish()).map_err(io)?;
    Ok(scored)
}

fn read(
    annotation: &Path,
    contigs: &[ContigSize],
    scores: &Scores,
    scored: &mut usize,
) -> Result<Vec<Line>, TrackError> {
    let bad = |line: usize, reason: String| TrackError::Annotation {
        file: input_name(annotation),
        line,
        reason,
    };
    let index: HashMap<&str, usize> = contigs
        .iter()
        .enumerate()
        .map(|(i, contig)| (contig.name.as_str(), i))
        .collect();
    let mut input = open_input(annotation).map_err(|error| bad(0, error.to_string()))?;
    let mut lines = Vec::new();
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let count = input
            .read_line(&mut text)
            .map_err(|error| bad(number, error.to_string()))?;
        if count == 0 || text.starts_with('>') || text.trim_end() == "##FASTA" {
            break;
        }
        let line = text.trim_end_matches(['\r', '\n', ' ']);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.split('\t').collect();
        let place = |i: usize| columns.get(i).and_then(|text| text.parse::<u64>().ok());
        let (Some(&contig), Some(first), Some(last), Some(attributes)) = (
            index.get(columns[0]),
            place(3).filter(|&first| first > 0),
            place(4),
            columns.get(8),
        ) else {
            return Err(bad(
                number,
                "expected a known contig, a start, an end and nine columns".to_owned(),
            ));
        };
        let score = score_of(columns[2], attributes, scores);
        *scored += usize::from(score.is_some());
        let suffix = score.map_or_else(String::new, |score| format!(";ess_score={score:.4}"));
        let length = contigs[contig].length;
        for (start, end) in within(first - 1, last, length) {
            let text = format!(
                "{}\t{}\t{}\t{}\t{end}\t{}\t{}\t{}\t{}{suffix}\n",
                columns[0],
                columns[1],
                columns[2],
                start + 1,
                columns[5],
                columns[6],
                columns[7],
                attributes.trim_end_matches(';'),
            );
            lines.push(Line {
                contig,
                start,
                end,
                text: text.into_bytes(),
            });
        }
    }
    Ok(lines)
}

/// The parts of `start..end` (zero-based) that lie on a contig, the second one after its origin.
pub(crate) fn within(start: u64, end: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = (start.min(length), end.min(length));
    let second = (0, end.saturating_sub(length).min(start));
    [first, second]
        .into_iter()
        .filter(|(start, end)| start < end)
}

/// The score of a gene or CDS, by its locus tag, ID or name.
fn score_of(kind: &str, attributes: &str, scores: &Scores) -> Option<f64> {
    if scores.is_empty() || !(kind == "gene" || kind == "CDS") {
        return None;
    }
    ["locus_tag", "ID", "Name", "gene"].iter().find_map(|tag| {
        attributes
            .split(';')
            .filter_map(|field| field.trim_start().split_once('='))
            .find(|(name, _)| name == tag)
            .and_then(|(_, value)| scores.get(value).copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgzip::query;

    #[test]
    fn features_are_sorted_scored_and_cut_at_the_origin() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("in.gff3");
        let text = "##gff-version 3\n# x\n\
            p\t.\tgene\t2\t3\t.\t+\t.\tID=g1;locus_tag=t1\n\
            c\tx y\tCDS\t18\t23\t.\t-\t0\tID=c1;locus_tag=t2;\r\n\
            c\t.\tgene\t1\t9\t.\t+\t.\tID=g3;locus_tag=t3\n\
            c\t.\tregion\t1\t20\t.\t+\t.\tID=r;locus_tag=t3\n\
            ##FASTA\n>c\nACGT\n";
        std::fs::write(&source, text).unwrap();
        let path = folder.path().join("genes.gff3.gz");
        let contigs = [ContigSize::new("c", 20), ContigSize::new("p", 5)];
        let scores = Scores::from([("t2".to_owned(), 1.5), ("t3".to_owned(), -2.0)]);
        assert_eq!(write(&path, &source, &contigs, &scores).unwrap(), 2);
        assert_eq!(
            query(&path, "c", 0, 20).unwrap(),
            [
                "c\t.\tregion\t1\t20\t.\t+\t.\tID=r;locus_tag=t3",
                "c\t.\tgene\t1\t9\t.\t+\t.\tID=g3;locus_tag=t3;ess_score=-2.0000",
                "c\tx y\tCDS\t1\t3\t.\t-\t0\tID=c1;locus_tag=t2;ess_score=1.5000",
                "c\tx y\tCDS\t18\t20\t.\t-\t0\tID=c1;locus_tag=t2;ess_score=1.5000",
            ]
        );
        assert_eq!(query(&path, "c", 18, 19).unwrap().len(), 2);
        assert_eq!(query(&path, "p", 0, 5).unwrap().len(), 1);
        let error = write(&path, &source, &contigs[..1], &scores).unwrap_err();
        assert!(
            error.to_string().ends_with(
                "in.gff3, line 3: expected a known contig, a start, an end and nine columns"
            ),
            "{error}"
        );
    }
}
