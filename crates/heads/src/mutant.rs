//! Mutants as text: `A42G:K50R`.

/// One letter in place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Substitution {
    /// Place in the wild type, as written.
    pub position: i64,
    /// Letter of the wild type.
    pub from: u8,
    /// New letter.
    pub to: u8,
}

impl std::fmt::Display for Substitution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (char::from(self.from), char::from(self.to));
        write!(f, "{from}{}{to}", self.position)
    }
}

/// Words for a mutant that has no substitution.
const WILD_TYPE: [&str; 5] = ["", "wt", "_wt", "wildtype", "wild-type"];

/// Reads substitutions, separated by colons, commas, semicolons, slashes, plus signs or blanks;
/// `WT` has none. Letters are made upper case.
///
/// # Errors
///
/// The part that is no substitution, or a place with two of them.
pub fn parse(text: &str) -> Result<Vec<Substitution>, String> {
    let text = text.trim();
    if WILD_TYPE.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for part in text.split([':', ',', ';', '/', '+', ' ']) {
        if part.is_empty() {
            continue;
        }
        found.push(one(part).ok_or_else(|| {
            format!("'{part}' is not a substitution; expected such as A42G, several as A42G:K50R")
        })?);
    }
    found.sort_by_key(|s: &Substitution| s.position);
    match found
        .windows(2)
        .find(|pair| pair[0].position == pair[1].position)
    {
        Some(pair) => Err(format!("position {} is changed twice", pair[0].position)),
        None => Ok(found),
    }
}

fn one(part: &str) -> Option<Substitution> {
    let bytes = part.as_bytes();
    let (&from, rest) = bytes.split_first()?;
    let (&to, number) = rest.split_last()?;
    let letter = |letter: u8| letter.is_ascii_alphabetic() || letter == b'*';
    let position = std::str::from_utf8(number).ok()?.parse().ok()?;
    (letter(from) && letter(to)).then_some(Substitution {
        position,
        from: from.to_ascii_uppercase(),
        to: to.to_ascii_uppercase(),
    })
}

/// The sequence of a mutant of `wild_type`, whose first letter has the number `first`.
///
/// # Errors
///
/// The first substitution that does not fit the wild type.
pub fn apply(
    wild_type: &[u8],
    first: i64,
    substitutions: &[Substitution],
) -> Result<Vec<u8>, String> {
    let mut sequence = wild_type.to_vec();
    for substitution in substitutions {
        let place = usize::try_from(substitution.position - first)
            .ok()
            .filter(|&place| place < sequence.len());
        let Some(place) = place else {
            let last = first + wild_type.len() as i64 - 1;
            return Err(format!(
                "{substitution} is outside the wild type, whose letters are numbered {first} to {last}"
            ));
        };
        let found = wild_type[place].to_ascii_uppercase();
        if found != substitution.from {
            return Err(format!(
                "{substitution} does not fit the wild type, which has {} there",
                char::from(found)
            ));
        }
        sequence[place] = substitution.to;
    }
    Ok(sequence)
}

/// The number of the wild type's first letter that makes all substitutions fit: 1 if that does,
/// else the one nearest to it, if there is any.
pub fn first_number<'a>(
    wild_type: &[u8],
    substitutions: impl IntoIterator<Item = &'a Substitution>,
) -> Option<i64> {
    let mut letters: Vec<(i64, u8)> = substitutions
        .into_iter()
        .map(|s| (s.position, s.from))
        .collect();
    letters.sort_unstable();
    letters.dedup();
    let (Some(lowest), Some(highest)) = (letters.first(), letters.last()) else {
        return Some(1);
    };
    let range = highest.0 - wild_type.len() as i64 + 1..=lowest.0;
    let fits = |first: i64| {
        letters.iter().all(|&(position, letter)| {
            wild_type[(position - first) as usize].eq_ignore_ascii_case(&letter)
        })
    };
    let mut candidates: Vec<i64> = range.collect();
    candidates.sort_by_key(|first| (first - 1).abs());
    candidates.into_iter().find(|&first| fits(first))
}

/// The substitutions that make `sequence` of `wild_type`, both of one length.
pub fn between(wild_type: &[u8], sequence: &[u8], first: i64) -> Vec<Substitution> {
    let pairs = wild_type.iter().zip(sequence).enumerate();
    pairs
        .filter(|(_, (from, to))| from != to)
        .map(|(i, (&from, &to))| Substitution {
            position: first + i as i64,
            from,
            to,
        })
        .collect()
}

/// Substitutions as text, joined by colons; `WT` when there is none.
pub fn name(substitutions: &[Substitution]) -> String {
    if substitutions.is_empty() {
        return "WT".into();
    }
    let parts: Vec<String> = substitutions.iter().map(ToString::to_string).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_read_and_applied() {
        let mutant = parse("K3R:a1G").unwrap();
        assert_eq!(name(&mutant), "A1G:K3R");
        assert_eq!(apply(b"ACK", 1, &mutant).unwrap(), b"GCR");
        assert_eq!(between(b"ACK", b"GCR", 1), mutant);
        assert_eq!(parse("A1G,K3*").unwrap().len(), 2);
        assert!(parse("WT").unwrap().is_empty());
        for bad in ["42G", "A42", "AxG", "A1G:A1C", "del5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fails = |text: &str| apply(b"ACK", 1, &parse(text).unwrap()).unwrap_err();
        assert!(fails("C1G").contains("C1G does not fit the wild type, which has A there"));
        assert!(fails("A9G").contains("numbered 1 to 3"));
    }

    #[test]
    fn numbering_is_found() {
        let all = |text: &str| parse(text).unwrap();
        assert_eq!(first_number(b"ACDK", &all("A1G:D3A")), Some(1));
        assert_eq!(first_number(b"ACDK", &all("A0G:D2A")), Some(0));
        assert_eq!(first_number(b"ACDK", &all("A24G:K27A")), Some(24));
        assert_eq!(first_number(b"ACDK", &all("W2G")), None);
        assert_eq!(first_number(b"ACDK", &[]), Some(1));
    }
}
