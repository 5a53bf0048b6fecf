//! What a row of a table changes.

use std::fmt;

/// One change of a wild type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One amino acid in place of another; `*` is a stop.
    AminoAcid {
        /// Number of the residue in the table.
        position: i64,
        /// The wild type's.
        from: u8,
        /// What stands there instead; none where it is deleted.
        to: Option<u8>,
    },
    /// One codon in place of another.
    Codon {
        /// Number of the residue in the table.
        position: i64,
        /// The wild type's.
        from: [u8; 3],
        /// What stands there instead.
        to: [u8; 3],
    },
    /// Bases of the coding sequence, counted from 1.
    Bases {
        /// First base that is taken away; of an insertion, the base after it.
        start: i64,
        /// Bases taken away.
        count: i64,
        /// The base that the wild type has there, where the change names one.
        from: Option<u8>,
        /// Bases given instead.
        to: Vec<u8>,
    },
}

/// The twenty amino acids and the stop, with their names of three letters.
const NAMES: [(&str, u8); 22] = [
    ("Ala", b'A'),
    ("Arg", b'R'),
    ("Asn", b'N'),
    ("Asp", b'D'),
    ("Cys", b'C'),
    ("Gln", b'Q'),
    ("Glu", b'E'),
    ("Gly", b'G'),
    ("His", b'H'),
    ("Ile", b'I'),
    ("Leu", b'L'),
    ("Lys", b'K'),
    ("Met", b'M'),
    ("Phe", b'F'),
    ("Pro", b'P'),
    ("Ser", b'S'),
    ("Thr", b'T'),
    ("Trp", b'W'),
    ("Tyr", b'Y'),
    ("Val", b'V'),
    ("Ter", b'*'),
    ("Stop", b'*'),
];

/// Reads changes joined by `:`, `,`, `;`, `/`, `+` or white space; the wild type (`WT`, `_wt`,
/// `p.=`, `c.=`, an empty field) has none.
///
/// # Errors
///
/// What is wrong with the first change that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Change>, String> {
    let text = text.trim().trim_matches('"');
    let (bases, text) = match text.split_at_checked(2) {
        Some(("c." | "n.", rest)) => (true, rest),
        Some(("p.", rest)) => (false, rest),
        _ => (false, text),
    };
    let wild = ["", "=", "wt", "_wt", "_sy", "wild-type", "wildtype"];
    if wild.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(Vec::new());
    }
    let joins = |c: char| ":,;/+[]()".contains(c) || c.is_whitespace();
    text.split(joins)
        .filter(|word| !word.is_empty() && *word != "p." && *word != "c.")
        .map(|word| {
            if bases {
                of_bases(word)
            } else {
                of_residues(word)
            }
        })
        .collect()
}

/// A word as letters, a number and what follows.
fn split(word: &str) -> Option<(&str, i64, &str)> {
    let start = word.find(|c: char| c.is_ascii_digit() || c == '-')?;
    let (before, rest) = word.split_at(start);
    let end = rest
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *i == 0 && *c == '-'))
        .map_or(rest.len(), |(i, _)| i);
    let (number, after) = rest.split_at(end);
    Some((before, number.parse().ok()?, after))
}

fn of_residues(word: &str) -> Result<Change, String> {
    let wrong = || {
        format!("'{word}' is no change; expected such as A42G, A42*, A42del, Ala42Gly or GCT42GGT")
    };
    let (from, position, to) = split(word).ok_or_else(wrong)?;
    if let (Some(from), Some(to)) = (codon(from), codon(to)) {
        return Ok(Change::Codon { position, from, to });
    }
    let from = residue(from).ok_or_else(wrong)?;
    let to = match to {
        "=" => Some(from),
        "-" | "del" => None,
        to => Some(residue(to).ok_or_else(wrong)?),
    };
    Ok(Change::AminoAcid { position, from, to })
}

fn of_bases(word: &str) -> Result<Change, String> {
    let wrong = || {
        format!("'{word}' is no change; expected such as 124G>A, 124_126del or 124_126delinsGGT")
    };
    let ("", first, rest) = split(word).ok_or_else(wrong)? else {
        return Err(wrong());
    };
    let (last, rest) = match rest.strip_prefix('_') {
        None => (first, rest),
        Some(rest) => match split(rest) {
            Some(("", last, rest)) if last >= first => (last, rest),
            _ => return Err(wrong()),
        },
    };
    let count = last.checked_sub(first).ok_or_else(wrong)?;
    let count = count.checked_add(1).ok_or_else(wrong)?;
    let given = |text: &str| dna(text).ok_or_else(wrong);
    if let Some((from, to)) = rest.split_once('>') {
        let (from, to) = (given(from)?, given(to)?);
        return match (from.as_slice(), to.len(), count) {
            ([from], 1, 1) => Ok(Change::Bases {
                start: first,
                count,
                from: Some(*from),
                to,
            }),
            _ => Err(wrong()),
        };
    }
    let (start, count, to) = if let Some(to) = rest.strip_prefix("delins") {
        (first, count, given(to)?)
    } else if rest == "del" {
        (first, count, Vec::new())
    } else if let (Some(to), 2) = (rest.strip_prefix("ins"), count) {
        (last, 0, given(to)?)
    } else {
        return Err(wrong());
    };
    Ok(Change::Bases {
        start,
        count,
        from: None,
        to,
    })
}

fn residue(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [letter] => NAMES
            .iter()
            .map(|(_, known)| *known)
            .find(|known| known == letter),
        _ => NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, letter)| *letter),
    }
}

fn codon(text: &str) -> Option<[u8; 3]> {
    dna(text)?.try_into().ok()
}

/// Upper-case bases; U is T.
fn dna(text: &str) -> Option<Vec<u8>> {
    let base = |byte: u8| match byte.to_ascii_uppercase() {
        b'U' => Some(b'T'),
        base @ (b'A' | b'C' | b'G' | b'T') => Some(base),
        _ => None,
    };
    let bases: Option<Vec<u8>> = text.bytes().map(base).collect();
    bases.filter(|bases| !bases.is_empty())
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bases: &[u8]| String::from_utf8_lossy(bases).into_owned();
        match self {
            Self::AminoAcid { position, from, to } => {
                let to = to.map_or("del".to_owned(), |to| char::from(to).to_string());
                write!(f, "{}{position}{to}", char::from(*from))
            }
            Self::Codon { position, from, to } => {
                write!(f, "{}{position}{}", text(from), text(to))
            }
            Self::Bases {
                start, count, to, ..
            } => write!(f, "c.{start}_{}delins{}", start + count - 1, text(to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn residue(position: i64, from: u8, to: u8) -> Change {
        Change::AminoAcid {
            position,
            from,
            to: Some(to),
        }
    }

    #[test]
    fn changes_are_read_in_the_ways_tables_write_them() {
        let two = vec![residue(42, b'A', b'G'), residue(50, b'K', b'R')];
        for text in [
            "A42G:K50R",
            "A42G,K50R",
            "A42G K50R",
            "A42G/K50R",
            "p.[Ala42Gly;Lys50Arg]",
            "p.(Ala42Gly);(Lys50Arg)",
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&two), "{text}");
        }
        for text in ["WT", "", "_wt", "p.=", "c.=", " wt "] {
            assert_eq!(parse(text), Ok(vec![]), "{text}");
        }
        assert_eq!(parse("A-3*"), Ok(vec![residue(-3, b'A', b'*')]));
        assert_eq!(parse("p.Ala42Ter"), Ok(vec![residue(42, b'A', b'*')]));
        assert_eq!(parse("p.Ala42="), Ok(vec![residue(42, b'A', b'A')]));
        let codon = Change::Codon {
            position: 42,
            from: *b"GCT",
            to: *b"GGT",
        };
        assert_eq!(parse("gcu42GGU"), Ok(vec![codon]));
        let deleted = Change::AminoAcid {
            position: 7,
            from: b'K',
            to: None,
        };
        assert_eq!(parse("K7del,K7-"), Ok(vec![deleted.clone(), deleted]));
    }

    #[test]
    fn bases_are_counted_from_one() {
        let change = |start, count, from, to: &[u8]| {
            let to = to.to_vec();
            Ok(vec![Change::Bases {
                start,
                count,
                from,
                to,
            }])
        };
        assert_eq!(parse("c.124G>A"), change(124, 1, Some(b'G'), b"A"));
        assert_eq!(parse("c.124_126delinsGGT"), change(124, 3, None, b"GGT"));
        assert_eq!(parse("c.124_126del"), change(124, 3, None, b""));
        assert_eq!(parse("c.126_127insGGT"), change(127, 0, None, b"GGT"));
        assert_eq!(parse("c.[1A>G;5T>C]").map(|all| all.len()), Ok(2));
    }

    #[test]
    fn other_words_are_errors() {
        for text in [
            "A42",
            "42G",
            "B42G",
            "A42GG",
            "A4 2G",
            "c.124G",
            "c.9_2del",
            "c.1_3insG",
            "AAAA4GGGG",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("A42G:x").unwrap_err();
        assert!(error.starts_with("'x' is no change; expected such as A42G"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,24}") {
            let _read = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(changes in prop::collection::vec(
            (1i64..999, 0usize..21, 0usize..21), 1..5)) {
            let changes: Vec<Change> = changes
                .iter()
                .map(|&(at, from, to)| residue(at, NAMES[from].1, NAMES[to].1))
                .collect();
            let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
            prop_assert_eq!(parse(&text.join(":")), Ok(changes));
        }
    }
}
