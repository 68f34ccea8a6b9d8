//! The anonymization configuration that a request names.

use serde::{Deserialize, Serialize};

use super::ResolvedConfiguration;
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::text::stored_as_text;

/// The folder of a destination that holds the configurations for exports to it.
pub const ANONYMIZATION_FOLDER: &str = "anonymization";

/// The folder of a destination in a bucket that holds the folders of exports. It is apart from the folder of configurations, so that a
/// lifecycle rule can expire the former and keep the latter.
pub const EXPORTS_FOLDER: &str = "exports";

/// The maximum size of a configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The suffix of the file with the keys of a configuration, which is beside it.
pub const KEYS_SUFFIX: &str = ".keys";

/// The name of an anonymization configuration: a path below [`ANONYMIZATION_FOLDER`] of at most 256 characters. Its segments
/// consist of letters, digits, spaces, `-`, `_` and `.`. No segment consists of dots and spaces only. It does not end with
/// [`KEYS_SUFFIX`], so that no request can name a file of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The anonymization configuration of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymizationConfig {
    /// The name (`_anonymizationConfig`).
    pub name: ConfigName,
    /// The entity tag that the file must have, in quotes (`_anonymizationConfigEtag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The results of the kick-off's check of the file. `None` before it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedConfiguration>,
}

impl AnonymizationConfig {
    /// Creates the configuration of a request, not read yet.
    pub fn new(name: ConfigName, etag: Option<String>) -> Self {
        Self { name, etag, resolved: None }
    }

    /// Returns the digest of the file and its keys, as they were at the kick-off.
    pub fn content(&self) -> Option<&ConfigDigest> {
        self.resolved.as_ref()?.content.as_ref()
    }

    /// Adds the results of the checks at the kick-off.
    #[must_use]
    pub fn with_resolved(self, resolved: ResolvedConfiguration) -> Self {
        Self { resolved: Some(resolved), ..self }
    }
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
