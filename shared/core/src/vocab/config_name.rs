//! Names of anonymization configurations, and entity tags of their files.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The folder of a destination that holds the configurations for exports to it.
pub const ANONYMIZATION_FOLDER: &str = "anonymization";

/// The folder of a destination in a bucket that holds the folders of exports. It is apart from the folder of configurations, so that a
/// lifecycle rule can expire the former and keep the latter.
pub const EXPORTS_FOLDER: &str = "exports";

/// The suffix of the file with the keys of a configuration, which is beside it.
pub const KEYS_SUFFIX: &str = ".keys";

/// The name of an anonymization configuration: a path below [`ANONYMIZATION_FOLDER`] of at most 256 characters. Its segments
/// consist of letters, digits, spaces, `-`, `_` and `.`. No segment consists of dots and spaces only. It does not end with
/// [`KEYS_SUFFIX`], so that no request can name a file of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigName(String);

impl ConfigName {
    /// Parses a name. Returns `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.');
        let is_segment = |segment: &str| segment.bytes().all(is_allowed) && segment.bytes().any(|byte| !matches!(byte, b'.' | b' '));
        let is_keys_file = text.to_ascii_lowercase().ends_with(KEYS_SUFFIX);
        ((1..=256).contains(&text.len()) && text.split('/').all(is_segment) && !is_keys_file).then(|| Self(text.to_owned()))
    }

    /// Returns the name of the file with the keys of the configuration.
    pub fn keys_file(&self) -> String {
        format!("{}{KEYS_SUFFIX}", self.0)
    }

    /// Returns the name, which is safe as a path and as a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(ConfigName, Self::parse, "not a configuration name");

/// Parses an entity tag and returns it in quotes (RFC 9110, section 8.8.3). Weak tags are rejected, because they do not guarantee equal
/// content.
pub fn parse_etag(text: &str) -> Option<String> {
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    ((1..=128).contains(&bare.len()) && bare.bytes().all(is_allowed)).then(|| format!("\"{bare}\""))
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
        for name in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/",
            ".",
            " ",
            "a\\b",
            "a%2fb",
            "ä",
            "a\nb",
            "../x",
            "study.json.keys",
            "x/A.KEYS",
            &long,
        ] {
            assert_eq!(ConfigName::parse(name), None, "{name:?}");
        }
    }
}
