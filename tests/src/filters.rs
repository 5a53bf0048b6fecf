//! Takes what differs from run to run or from machine to machine out of a text.

use std::path::Path;
use std::sync::OnceLock;

use regex::Regex;

/// What is replaced wherever it stands: pattern and replacement.
const PATTERNS: &[(&str, &str)] = &[
    (r"\.tmp[A-Za-z0-9]{6}\b", ".tmp[RANDOM]"),
    (r"\b[A-Za-z0-9]{6}\.tmp\b", "[RANDOM].tmp"),
    (r"tfevents\.\d+\.[^/\s]+", "tfevents.[RUN]"),
    (r"\b[0-9a-f]{64}\b", "[SHA256]"),
    (
        r"\d+(\.\d+)? (records|bases) a second",
        "[RATE] $2 a second",
    ),
    (r"in \d+\.\d s \(\d+ MB/s\)", "in [TIME] s ([RATE] MB/s)"),
    (
        r"(\d+(\.\d+)?[kM]?) tokens/s  \d+:\d\d left",
        "[RATE] tokens/s  [TIME] left",
    ),
    (r"\b(loss|bits/base|grad) \d+\.\d+", "$1 [NUMBER]"),
    (r#""timestamp":"[^"]*""#, r#""timestamp":"[TIME]""#),
];

fn patterns() -> &'static [(Regex, &'static str)] {
    static COMPILED: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compile = |pattern| Regex::new(pattern).expect("the patterns are tested");
        PATTERNS
            .iter()
            .map(|(pattern, put)| (compile(pattern), *put))
            .collect()
    })
}

/// Scores of a VCF: their digits differ between processors, their places do not.
fn scores(text: &str) -> String {
    static KEY: OnceLock<Regex> = OnceLock::new();
    static NUMBER: OnceLock<Regex> = OnceLock::new();
    let key = KEY.get_or_init(|| Regex::new(r"CIS_LLR=[^;\t\n]*").expect("a pattern"));
    let number = NUMBER.get_or_init(|| Regex::new(r"-?\d+(\.\d+)?(e-?\d+)?").expect("a pattern"));
    key.replace_all(text, |found: &regex::Captures<'_>| {
        let values = found[0].strip_prefix("CIS_LLR=").unwrap_or_default();
        format!("CIS_LLR={}", number.replace_all(values, "[LLR]"))
    })
    .into_owned()
}

/// The text with names in place of `folders`, and of digests, rates, times and scores.
pub fn filter(text: &str, folders: &[(&Path, &str)]) -> String {
    let mut text = text.to_owned();
    for (folder, name) in folders {
        text = text.replace(&*folder.to_string_lossy(), name);
    }
    for (pattern, put) in patterns() {
        text = pattern.replace_all(&text, *put).into_owned();
    }
    scores(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_replaced() {
        let case = (Path::new("/tmp/x1"), "[CASE]");
        let same = |text: &str, filtered: &str| assert_eq!(filter(text, &[case]), filtered);
        same("/tmp/x1/a.fna:3: bad", "[CASE]/a.fna:3: bad");
        same("c.tmpAb12Cd gone", "c.tmp[RANDOM] gone");
        same(
            "c: 2 genomes, 9 bases in 0.2 s (4 MB/s)",
            "c: 2 genomes, 9 bases in [TIME] s ([RATE] MB/s)",
        );
        same("(61.5 records a second)", "([RATE] records a second)");
        same(
            "DP=3;CIS_LLR=-0.125,.,1.5e-7;CIS_STATUS=OK,STAR,OK\tGT",
            "DP=3;CIS_LLR=[LLR],.,[LLR];CIS_STATUS=OK,STAR,OK\tGT",
        );
        same("line 12 of 30", "line 12 of 30");
    }
}
