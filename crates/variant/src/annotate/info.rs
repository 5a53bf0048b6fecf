//! Our fields in the INFO column.

use super::{LLR, STATUS};
use crate::status::Status;
use crate::vcf::Record;

/// The score of one ALT, or why there is none.
pub type Score = Result<f32, Status>;

/// Scores that cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AnnotateError {
    /// There are more or fewer scores than ALTs.
    #[error("{place}: {scores} scores for {alts} ALT alleles")]
    Count {
        /// Contig and position.
        place: String,
        /// Number of ALTs.
        alts: usize,
        /// Number of scores.
        scores: usize,
    },
    /// A score is infinite or not a number.
    #[error(
        "{place}: the score of ALT {alt} is {score}; the model is broken there (`cistron \
         selftest` and --device cpu tell whether the device is)"
    )]
    NotFinite {
        /// Contig and position.
        place: String,
        /// Number of the ALT, from 1.
        alt: usize,
        /// The score.
        score: f32,
    },
}

/// The line of a record with our fields at the end of INFO, in place of any that were there.
///
/// `CIS_LLR` is left out when no ALT was scored; `CIS_STATUS` is always there. All bytes
/// outside INFO stay, the line ending too.
///
/// # Errors
/// When the number of scores is not that of the ALTs, or a score is not finite.
pub fn splice_record(record: &Record, scores: &[Score]) -> Result<Vec<u8>, AnnotateError> {
    let alts = record.alts().count();
    if alts != scores.len() {
        return Err(AnnotateError::Count {
            place: record.place(),
            alts,
            scores: scores.len(),
        });
    }
    for (i, score) in scores.iter().enumerate() {
        if let Some(score) = score.ok().filter(|score| !score.is_finite()) {
            return Err(AnnotateError::NotFinite {
                place: record.place(),
                alt: i + 1,
                score,
            });
        }
    }
    let mut info = without_ours(record.info());
    if info == b"." {
        info.clear();
    } else {
        info.push(b';');
    }
    if scores.iter().any(Result::is_ok) {
        let values: Vec<String> = scores.iter().map(llr_value).collect();
        info.extend(format!("{LLR}={};", values.join(",")).into_bytes());
    }
    let words: Vec<&str> = scores
        .iter()
        .map(|score| score.err().unwrap_or(Status::Ok).word())
        .collect();
    info.extend(format!("{STATUS}={}", words.join(",")).into_bytes());
    let (raw, range) = (record.raw(), record.info_range());
    Ok([&raw[..range.start], &info, &raw[range.end..]].concat())
}

/// The shortest text that reads back as the same `f32`, or `.`.
fn llr_value(score: &Score) -> String {
    match score {
        // Adding zero turns -0 into 0.
        Ok(value) => format!("{:?}", value + 0.0),
        Err(_) => ".".to_owned(),
    }
}

/// INFO less our fields; `.` when nothing else was there.
pub(super) fn without_ours(info: &[u8]) -> Vec<u8> {
    let is_ours = |field: &&[u8]| {
        let key = field.split(|byte| *byte == b'=').next();
        key == Some(LLR.as_bytes()) || key == Some(STATUS.as_bytes())
    };
    let fields = info.split(|byte| *byte == b';');
    let kept: Vec<&[u8]> = fields.filter(|field| !is_ours(field)).collect();
    if kept.is_empty() {
        return b".".to_vec();
    }
    kept.join(&b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splice(info: &str, alt: &str, scores: &[Score]) -> Result<String, AnnotateError> {
        let line = format!("c\t9\t.\tA\t{alt}\t5.0\tPASS\t{info}\tGT\t0|1\r\n");
        let record = Record::parse(line.clone().into_bytes(), 3, 10).unwrap();
        let line = String::from_utf8(splice_record(&record, scores)?).unwrap();
        assert!(line.starts_with(&format!("c\t9\t.\tA\t{alt}\t5.0\tPASS\t")));
        assert!(line.ends_with("\tGT\t0|1\r\n"));
        Ok(line.split('\t').nth(7).unwrap().to_owned())
    }

    #[test]
    fn one_value_per_alt() {
        let info = splice("DP=3;DB", "C,*,G", &[Ok(-1.5), Err(Status::Star), Ok(-0.0)]);
        let expected = "DP=3;DB;CIS_LLR=-1.5,.,0.0;CIS_STATUS=OK,STAR,OK";
        assert_eq!(info.unwrap(), expected);
    }

    #[test]
    fn a_record_without_scores_has_no_llr() {
        let info = splice(".", "<DEL>,*", &[Err(Status::Symbolic), Err(Status::Star)]);
        assert_eq!(info.unwrap(), "CIS_STATUS=SYMBOLIC,STAR");
        assert_eq!(
            splice("DB", ".", &[Err(Status::NoAlt)]).unwrap(),
            "DB;CIS_STATUS=NO_ALT"
        );
    }

    #[test]
    fn fields_that_were_there_are_replaced() {
        for (info, expected) in [
            (
                "CIS_LLR=9;DP=3;CIS_STATUS=OK",
                "DP=3;CIS_LLR=1.0;CIS_STATUS=OK",
            ),
            ("CIS_LLR;CIS_STATUS", "CIS_LLR=1.0;CIS_STATUS=OK"),
            ("CIS_LLR=9;CIS_LLR=8", "CIS_LLR=1.0;CIS_STATUS=OK"),
            ("CIS_LLRS=1", "CIS_LLRS=1;CIS_LLR=1.0;CIS_STATUS=OK"),
            ("DP=3;", "DP=3;;CIS_LLR=1.0;CIS_STATUS=OK"),
        ] {
            assert_eq!(splice(info, "C", &[Ok(1.0)]).unwrap(), expected);
        }
    }

    #[test]
    fn values_read_back_the_same() {
        for value in [0.1f32, -12.345678, 1e-7, 3e9, f32::MIN_POSITIVE, f32::MAX] {
            let text = llr_value(&Ok(value));
            assert_eq!(text.parse::<f32>().unwrap(), value);
            assert!(
                text.bytes().all(|b| b"0123456789.e-".contains(&b)),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_scores_are_refused() {
        let text = splice(".", "C,G", &[Ok(1.0)]).unwrap_err().to_string();
        assert_eq!(text, "c:9: 1 scores for 2 ALT alleles");
        let text = splice(".", "C,G", &[Ok(1.0), Ok(f32::NAN)])
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("c:9: the score of ALT 2 is NaN"), "{text}");
        assert!(splice(".", "C", &[Ok(f32::INFINITY)]).is_err());
    }
}
