//! Names in error messages: short lists and the nearest known name.

/// Number of names that a list in a message holds.
const LISTED: usize = 8;

/// `a, b, c and 12 more`; `none` for no names.
pub(crate) fn list<S: AsRef<str>>(names: impl ExactSizeIterator<Item = S>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut text = String::new();
    for (i, name) in names.take(LISTED).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(name.as_ref());
    }
    if text.is_empty() {
        text.push_str("none");
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// `; did you mean "x"?` for the known name nearest to `name`, or nothing.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(["a", "b"].iter()), "a, b");
        assert_eq!(list(Vec::<&str>::new().iter()), "none");
        let many: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(list(many.iter()), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["chromosome", "plasmid"];
        let text = suggestion("chromosom", known.into_iter());
        assert_eq!(text, "; did you mean \"chromosome\"?");
        assert_eq!(suggestion("xyz", known.into_iter()), "");
    }
}
