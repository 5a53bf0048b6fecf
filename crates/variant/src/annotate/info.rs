//! Our fields in the INFO column.

use super::{CONSEQUENCE, GENE, KEYS, LLR, STATUS};
use crate::consequence::Consequence;
use crate::status::Status;
use crate::vcf::Record;

/// The score of one ALT, or why there is none.
pub type Score = Result<f32, Status>;

/// What one ALT does, and the gene it does it to.
pub type Effect = (Consequence, Option<String>);

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
/// `CIS_LLR` is left out when no ALT was scored; `CIS_STATUS` is always there. `effects`, one an
/// ALT, become `CIS_CSQ` and `CIS_GENE`, which are left out where no ALT has one. All bytes
/// outside INFO stay, the line ending too.
///
/// # Errors
/// When the number of scores is not that of the ALTs, or a score is not finite.
pub fn splice_record(
    record: &Record,
    scores: &[Score],
    effects: Option<&[Option<Effect>]>,
) -> Result<Vec<u8>, AnnotateError> {
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
    let effects = effects.filter(|effects| effects.iter().any(Option::is_some));
    if let Some(effects) = effects {
        let join = |word: fn(&Effect) -> String| {
            let word = |effect: &Option<Effect>| effect.as_ref().map_or(".".to_owned(), word);
            effects.iter().map(word).collect::<Vec<_>>().join(",")
        };
        let words = join(|(consequence, _)| consequence.word().to_owned());
        let genes = join(|(_, gene)| gene.as_deref().map_or(".".to_owned(), encoded));
        info.extend(format!(";{CONSEQUENCE}={words};{GENE}={genes}").into_bytes());
    }
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

/// Text with the characters that mean something in INFO as %XX (VCF 4.5, section 1.2).
fn encoded(text: &str) -> String {
    let special = |c: char| c.is_ascii_control() || " :;=%,".contains(c);
    text.chars()
        .map(|c| match special(c) {
            true => format!("%{:02X}", u32::from(c)),
            false => c.to_string(),
        })
        .collect()
}

/// INFO less our fields; `.` when nothing else was there.
pub(super) fn without_ours(info: &[u8]) -> Vec<u8> {
    let is_ours = |field: &&[u8]| {
        let key = field.split(|byte| *byte == b'=').next();
        KEYS.iter().any(|ours| key == Some(ours.as_bytes()))
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
        let line = String::from_utf8(splice_record(&record, scores, None)?).unwrap();
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
    fn effects_follow_the_scores() {
        let record = Record::parse(b"c\t9\t.\tA\tC,*\t.\t.\tCIS_GENE=x\n".to_vec(), 3, 8).unwrap();
        let scores = [Ok(1.0), Err(Status::Star)];
        let effects = [Some((Consequence::Missense, Some("a;b".to_owned()))), None];
        let line = splice_record(&record, &scores, Some(&effects)).unwrap();
        let line = String::from_utf8(line).unwrap();
        let info = "CIS_LLR=1.0,.;CIS_STATUS=OK,STAR;CIS_CSQ=missense,.;CIS_GENE=a%3Bb,.\n";
        assert!(line.ends_with(info), "{line}");
        let line = splice_record(&record, &scores, Some(&[None, None])).unwrap();
        assert!(line.ends_with(b"\tCIS_LLR=1.0,.;CIS_STATUS=OK,STAR\n"));
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
