//! The anonymization configuration that a request names.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The folder of a destination that holds the configurations for exports to it.
pub const ANONYMIZATION_FOLDER: &str = "anonymization";

/// The maximum size of a configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The name of an anonymization configuration: a path below [`ANONYMIZATION_FOLDER`] of at most 256 characters. Its segments
/// consist of letters, digits, spaces, `-`, `_` and `.`. No segment consists of dots and spaces only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigName(String);

impl ConfigName {
    /// Parses a name. Returns `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.');
        let is_segment = |segment: &str| segment.bytes().all(is_allowed) && segment.bytes().any(|byte| !matches!(byte, b'.' | b' '));
        ((1..=256).contains(&text.len()) && text.split('/').all(is_segment)).then(|| Self(text.to_owned()))
    }

    /// Returns the name, which is safe as a path and as a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(ConfigName, Self::parse, "not a configuration name");

/// The anonymization configuration of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymizationConfig {
    /// The name (`_anonymizationConfig`).
    pub name: ConfigName,
    /// The entity tag that the file must have, in quotes (`_anonymizationConfigEtag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_name_cannot_leave_its_folder() {
        for name in ["config.json", "safe harbor v2.json", "team-1/study_7/config.json", "..a", "a..b"] {
            assert_eq!(ConfigName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(257);
        for name in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", " ", "a\\b", "a%2fb", "ä", "a\nb", "../x", &long] {
            assert_eq!(ConfigName::parse(name), None, "{name:?}");
        }
    }
}
