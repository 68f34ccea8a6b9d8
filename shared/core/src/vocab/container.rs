//! Containers: named folders inside a destination.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The name of a folder inside the destination (`_container`): 3 to 63 characters of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Container(String);

impl Container {
    /// The rule for names, for messages.
    pub const RULE: &str = "3 to 63 characters of a-z, 0-9 and the hyphen";

    /// Parses a container name. Returns `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((3..=63).contains(&text.len()) && text.bytes().all(is_allowed)).then(|| Self(text.to_owned()))
    }

    /// Returns the name, which is safe as a path segment and as a key prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(Container, Self::parse, "not a container name");
