//! Turns what serde says of a configuration into what its writer wants to know.

use strsim::damerau_levenshtein;

/// What serde found, in the words of the configuration.
#[derive(Debug, PartialEq)]
pub struct Explained {
    /// The dotted key at fault.
    pub key: String,
    /// What was found and what is expected.
    pub problem: String,
}

/// Explains the serde message `message` at `path`; `known` are all dotted keys that exist.
pub fn explain(path: &str, message: &str, known: &[String]) -> Explained {
    let message = message.trim();
    let names = quoted(message);
    if message.starts_with("unknown field")
        && let Some((unknown, expected)) = names.split_first()
    {
        let parent = path
            .strip_suffix(unknown)
            .map_or(path, |rest| rest.trim_end_matches('.'));
        let parent = if parent == "." { "" } else { parent };
        return Explained {
            key: join(parent, unknown),
            problem: unknown_key(parent, unknown, expected, known),
        };
    }
    if message.starts_with("unknown variant")
        && let Some((found, expected)) = names.split_first()
    {
        let hint = nearest(found, expected)
            .map_or(String::new(), |near| format!("; did you mean '{near}'?"));
        return Explained {
            key: path.to_owned(),
            problem: format!("'{found}': expected {}{hint}", one_of(expected)),
        };
    }
    Explained {
        key: path.to_owned(),
        problem: plain(message),
    }
}

/// The nearest of `names` when it is near enough to be a slip.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase());
    let near = names.iter().min_by_key(|name| distance(name))?;
    let allowed = (word.chars().count().max(near.chars().count()) / 3).max(1);
    (distance(near) <= allowed).then_some(near)
}

fn unknown_key(parent: &str, unknown: &str, expected: &[&str], known: &[String]) -> String {
    let elsewhere = || {
        known
            .iter()
            .find(|key| key.rsplit('.').next() == Some(unknown))
            .map(String::as_str)
    };
    let hint = match nearest(unknown, expected) {
        Some(near) => Some(join(parent, near)),
        None => elsewhere().map(str::to_owned),
    };
    match hint {
        Some(hint) => format!("unknown key; did you mean '{hint}'?"),
        None => format!("unknown key; expected {}", one_of(expected)),
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing here".into(),
        [one] => format!("'{one}'"),
        [first @ .., last] => format!("'{}' or '{last}'", first.join("', '")),
    }
}

/// What stands between backticks.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// Names Rust types as a reader of TOML would.
fn plain(message: &str) -> String {
    let mut message = message
        .replace("invalid type: ", "")
        .replace("invalid value: ", "");
    if let Some(at) = message.rfind("expected ") {
        let (head, tail) = message.split_at(at);
        let tail = tail.strip_prefix("expected ").unwrap_or(tail);
        let tail = match tail.trim() {
            "u64" | "usize" | "u32" => "a whole number, 0 or more",
            "i64" | "i32" => "a whole number",
            "f64" | "f32" => "a number",
            "a boolean" | "bool" => "true or false",
            other if other.starts_with("struct ") => "a table",
            "a map" | "map" => "a table",
            "a sequence" => "a list",
            other => other,
        };
        message = format!("{head}expected {tail}");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_suggest_the_nearest() {
        let known = ["optimizer.lr".to_owned(), "train.seed".to_owned()];
        let explained = explain(
            "data.lenght",
            "unknown field `lenght`, expected one of `length`, `batch`",
            &known,
        );
        assert_eq!(explained.key, "data.lenght");
        assert_eq!(
            explained.problem,
            "unknown key; did you mean 'data.length'?"
        );
        let moved = explain(
            "data",
            "unknown field `seed`, expected one of `length`, `batch`",
            &known,
        );
        assert_eq!(moved.key, "data.seed");
        assert!(moved.problem.contains("'train.seed'"), "{moved:?}");
        let lost = explain(
            ".",
            "unknown field `zzzzzz`, expected `length` or `batch`",
            &known,
        );
        assert_eq!(lost.key, "zzzzzz");
        assert!(
            lost.problem.ends_with("expected 'length' or 'batch'"),
            "{lost:?}"
        );
    }

    #[test]
    fn types_are_named_plainly() {
        let explained = explain("a.b", "invalid type: string \"x\", expected u64", &[]);
        assert_eq!(
            explained.problem,
            "string \"x\", expected a whole number, 0 or more"
        );
        let variant = explain(
            "schedule.kind",
            "unknown variant `cosin`, expected one of `cosine`, `wsd`, `constant`",
            &[],
        );
        assert_eq!(
            variant.problem,
            "'cosin': expected 'cosine', 'wsd' or 'constant'; did you mean 'cosine'?"
        );
    }
}
