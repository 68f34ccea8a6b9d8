//! The names of remarks about anonymization configurations, by which the operator accepts them.

use std::fmt;

use headrace_fhir::deid::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::vocab::byte_order_mark::without_byte_order_mark;
use crate::vocab::config_digest::ConfigDigest;

/// The number of hexadecimal digits of a digest in a name: few enough to be copied by hand.
const DIGEST_DIGITS: usize = 8;

/// The name of a remark: its code, the number of its rule if it is about a rule, and the beginning of the digest of the text that it is about. The
/// code alone stands for all warnings with the code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RemarkName {
    code: DeidRemarkCode,
    rule: Option<usize>,
    digest: Option<String>,
}

impl RemarkName {
    /// Returns the name of all warnings with a code.
    pub(super) fn of_kind(code: DeidRemarkCode) -> Self {
        Self { code, rule: None, digest: None }
    }

    /// Parses a name such as `known-date` or `selects-nothing:7@1c9e04b2`. Returns `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
        };
        let (code, rule) = match name.split_once(':') {
            None => (name, None),
            Some((code, number)) => (code, Some(number.parse().ok().filter(|number| *number > 0)?)),
        };
        // A number alone would also accept the next mistake that is made in the rule.
        if rule.is_some() && digest.is_none() {
            return None;
        }
        Some(Self { code: DeidRemarkCode::parse(code)?, rule, digest })
    }
}

impl fmt::Display for RemarkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())?;
        if let Some(number) = self.rule {
            write!(f, ":{number}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The names of the remarks about one configuration.
///
/// A remark about a rule is bound to the text of the rule, and an error about the rest of the file to the text of the file. So the acceptance of a
/// mistake does not cover another one that is made in the same place later.
#[derive(Clone, Debug)]
pub struct RemarkNames {
    file: String,
    rules: Vec<String>,
}

/// The rules of a configuration as they are written in its file.
#[derive(Deserialize)]
struct WrittenRules<'a> {
    #[serde(rename = "fhirPathRules", borrow)]
    rules: Vec<&'a RawValue>,
}

impl RemarkNames {
    /// Creates the names for the text of a configuration. In a file with comments, each rule is bound to the text of the file.
    pub fn new(text: &[u8]) -> Self {
        let rules =
            serde_json::from_slice::<WrittenRules<'_>>(without_byte_order_mark(text)).map(|written| written.rules).unwrap_or_default();
        Self { file: short_digest(text), rules: rules.iter().map(|rule| short_digest(rule.get().as_bytes())).collect() }
    }

    /// Returns the name of a remark about the configuration.
    pub fn name(&self, remark: &DeidRemark) -> String {
        self.name_of(remark).to_string()
    }

    /// Returns the name of a remark about the configuration, for comparisons.
    pub(super) fn name_of(&self, remark: &DeidRemark) -> RemarkName {
        let digest = match (remark.rule_number, remark.severity) {
            (Some(number), DeidRemarkSeverity::Error | DeidRemarkSeverity::Warning) => Some(self.digest_of_rule(number)),
            (None, DeidRemarkSeverity::Error) => Some(self.file.clone()),
            (None, DeidRemarkSeverity::Warning) => None,
        };
        RemarkName { code: remark.code, rule: remark.rule_number, digest }
    }

    /// Returns the digest of a rule, by its number counted from 1.
    fn digest_of_rule(&self, number: usize) -> String {
        number.checked_sub(1).and_then(|index| self.rules.get(index)).unwrap_or(&self.file).clone()
    }
}

/// Returns the beginning of the digest of a text.
fn short_digest(text: &[u8]) -> String {
    ConfigDigest::from_bytes(text).as_str().chars().take(DIGEST_DIGITS).collect()
}

/// Parses the digest of a name. Returns `None` for any other text.
fn parse_digest(text: &str) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (text.len() == DIGEST_DIGITS && text.bytes().all(is_digit)).then(|| text.to_owned())
}
