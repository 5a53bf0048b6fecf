//! `--set a.b=c` arguments.

use toml::{Table, Value};

use crate::TrainError;

/// One `--set` argument.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The argument as given.
    pub text: String,
    /// Keys from the outermost table inwards.
    pub path: Vec<String>,
    /// What the key becomes.
    pub value: Value,
}

impl Setting {
    /// Parses `a.b=c`. The value is TOML; a bare word that is not is a string.
    ///
    /// # Errors
    ///
    /// There is no `=`, a key is empty, or the value begins a list, table or string
    /// that it does not end.
    pub fn parse(text: &str) -> Result<Self, TrainError> {
        let fail = |problem: String| TrainError::Syntax {
            origin: format!("--set {text}"),
            problem,
        };
        let (key, raw) = text
            .split_once('=')
            .ok_or_else(|| fail("expected key=value, as in --set optimizer.lr=3e-4".into()))?;
        let path: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err(fail(
                "expected a dotted key before '=', as in --set optimizer.lr=3e-4".into(),
            ));
        }
        let raw = raw.trim();
        let value = match toml::from_str::<Table>(&format!("value = {raw}")) {
            Ok(mut table) if table.len() == 1 => table.remove("value"),
            _ => None,
        };
        let value = match value {
            Some(value) => value,
            None if raw.starts_with(['[', '{', '"', '\'']) => {
                return Err(fail(format!("'{raw}' is not a TOML value")));
            }
            None => Value::String(raw.to_owned()),
        };
        Ok(Self {
            text: text.to_owned(),
            path,
            value,
        })
    }

    /// The dotted key.
    pub fn key(&self) -> String {
        self.path.join(".")
    }

    /// Puts the value into `table`, making tables on the way.
    ///
    /// # Errors
    ///
    /// A key on the way is not a table.
    pub fn apply(&self, table: &mut Table) -> Result<(), TrainError> {
        let mut table = table;
        let (last, parents) = self
            .path
            .split_last()
            .expect("parsing leaves no empty path");
        for (depth, key) in parents.iter().enumerate() {
            table = table
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()))
                .as_table_mut()
                .ok_or_else(|| TrainError::Config {
                    origin: format!("--set {}", self.text),
                    key: self.path[..=depth].join("."),
                    problem: "is a value, not a table with keys of its own".into(),
                })?;
        }
        table.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_and_bare_words_are_strings() {
        let value = |text: &str| Setting::parse(text).unwrap().value;
        assert_eq!(value("a=3"), Value::Integer(3));
        assert_eq!(value("a.b = 3e-4"), Value::Float(3e-4));
        assert_eq!(value("a=true"), Value::Boolean(true));
        assert_eq!(value("a=wsd"), Value::String("wsd".into()));
        assert_eq!(value("a=\"7\""), Value::String("7".into()));
        assert_eq!(
            value("a=models/x=1.json"),
            Value::String("models/x=1.json".into())
        );
        assert_eq!(
            value(r#"a=["m4", ["T2"]]"#).as_array().map(Vec::len),
            Some(2)
        );
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in ["a", "=3", "a..b=3", "a=[1", "a=\"x"] {
            let error = Setting::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("--set {text}")), "{error}");
        }
    }

    #[test]
    fn tables_are_made_on_the_way_and_values_are_not_entered() {
        let mut table = Table::new();
        Setting::parse("a.b.c=1")
            .unwrap()
            .apply(&mut table)
            .unwrap();
        assert_eq!(table["a"]["b"]["c"], Value::Integer(1));
        let error = Setting::parse("a.b.c.d=1").unwrap().apply(&mut table);
        assert!(error.unwrap_err().to_string().contains("a.b.c: is a value"));
    }
}
