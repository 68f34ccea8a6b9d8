//! The names of remarks about anonymization configurations, by which the operator accepts them.

use std::fmt;

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};

use crate::vocab::config_digest::ConfigDigest;

/// The number of hexadecimal digits of a digest in a name: few enough to be copied by hand.
const DIGEST_DIGITS: usize = 8;

/// The name of a remark: its code, the number of its rule if it is about a rule, and the beginning of a digest of what is accepted. The code alone
/// stands for all warnings with the code.
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
/// The meaning of a remark depends on the whole file: the same rule with the same words lets other elements through after a change of another rule. So
/// a name is bound to the text of the file, to the FHIR version, and to what the remark says. The acceptance of a mistake covers no later one.
#[derive(Clone, Debug)]
pub struct RemarkNames {
    file: ConfigDigest,
    version: FhirVersion,
}

impl RemarkNames {
    /// Creates the names for the text of a configuration that is read for a FHIR version.
    pub fn new(text: &[u8], version: FhirVersion) -> Self {
        Self { file: ConfigDigest::from_bytes(text), version }
    }

    /// Returns the name of a remark about the configuration.
    pub fn name(&self, remark: &DeidRemark) -> String {
        self.name_of(remark).to_string()
    }

    /// Returns the name of a remark about the configuration, for comparisons.
    pub(super) fn name_of(&self, remark: &DeidRemark) -> RemarkName {
        let digest = match (remark.rule_number, remark.severity) {
            (Some(_), DeidRemarkSeverity::Error | DeidRemarkSeverity::Warning) | (None, DeidRemarkSeverity::Error) => {
                Some(self.digest_of(remark))
            }
            (None, DeidRemarkSeverity::Warning) => None,
        };
        RemarkName { code: remark.code, rule: remark.rule_number, digest }
    }

    /// Returns the beginning of the digest of the file, its version, and what the remark says. A reason may list only a few of many elements: the
    /// file and the version determine the others.
    fn digest_of(&self, remark: &DeidRemark) -> String {
        let accepted = format!("{} {} {}", self.file, self.version.as_str(), remark.reason);
        ConfigDigest::from_bytes(accepted.as_bytes()).as_str().chars().take(DIGEST_DIGITS).collect()
    }
}

/// Parses the digest of a name. Returns `None` for any other text.
fn parse_digest(text: &str) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (text.len() == DIGEST_DIGITS && text.bytes().all(is_digit)).then(|| text.to_owned())
}
