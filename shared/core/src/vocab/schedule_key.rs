//! Names of schedules.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a schedule: 1 to 63 of the characters `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleName(String);

/// The error for text that is not the name of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a schedule has 1 to 63 of the characters a-z, 0-9 and -")]
pub struct InvalidScheduleName;

impl ScheduleName {
    /// Parses a name from a command line or a stored item.
    pub fn parse(text: &str) -> Result<Self, InvalidScheduleName> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=63).contains(&text.len()) && text.bytes().all(is_allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidScheduleName) }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ScheduleName {
    type Error = InvalidScheduleName;
    fn try_from(text: String) -> Result<Self, InvalidScheduleName> {
        Self::parse(&text)
    }
}

impl From<ScheduleName> for String {
    fn from(name: ScheduleName) -> Self {
        name.0
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a schedule, and a random id that tells it from an earlier schedule of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScheduleKey {
    /// The name.
    pub name: ScheduleName,
    /// The id: 32 hexadecimal digits.
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_few_plain_characters() {
        let longest = "a".repeat(63);
        for name in ["nightly", "a", "7-days", longest.as_str()] {
            assert_eq!(ScheduleName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "Nightly", "a b", "a#b", "../a", "ä", &"a".repeat(64)] {
            assert_eq!(ScheduleName::parse(name), Err(InvalidScheduleName), "{name}");
        }
    }
}
