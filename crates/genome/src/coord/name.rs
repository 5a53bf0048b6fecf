//! Names of contigs.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a contig: the first word of its FASTA header. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContigName(Arc<str>);

impl ContigName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ContigName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for ContigName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Deref for ContigName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ContigName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ContigName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ContigName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ContigName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// The name in quotation marks.
impl fmt::Debug for ContigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ContigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for ContigName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContigName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_name_is_found_as_text_and_kept_in_files() {
        let name = ContigName::from("NC_000913.3");
        let found = HashMap::from([(name.clone(), 7)]);
        assert_eq!(found.get("NC_000913.3"), Some(&7));
        let text = serde_json::to_string(&name).unwrap();
        assert_eq!(text, "\"NC_000913.3\"");
        assert_eq!(serde_json::from_str::<ContigName>(&text).unwrap(), name);
        assert_eq!(
            format!("{name} {name:?} {name:>12}|"),
            "NC_000913.3 \"NC_000913.3\"  NC_000913.3|"
        );
    }
}
