//! Where the files of an export lie, and what they are encrypted under: containers, layouts and keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The mark in a layout for the time of the kick-off.
const TIMESTAMP: &str = "<timestamp>";

/// The mark in a layout for the job's id.
const ID: &str = "<id>";

/// Names that `_format` takes for FHIR JSON, as everywhere in FHIR; no layout can have one.
pub(super) const JSON_FORMATS: [&str; 3] = ["json", "application/json", "application/fhir+json"];

/// Where the files of an export lie: text with `<timestamp>` and `<id>` for the job's own, at least `<id>`, without a
/// slash at either end. The operator names layouts, `_format` picks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Layout(String);

/// A list of layouts that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names `{0}`: a layout is written name=folders, such as monthly=<timestamp>/<id>, with <id> in it and no name twice")]
pub struct InvalidLayout(String);

impl Layout {
    /// Reads a layout: segments of letters, digits, `-`, `_`, `.` and the two marks. As Azure writes them, a last segment
    /// `<resourcename>` may stand at the end: every file is named by its type here.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("/<resourcename>").unwrap_or(text);
        let fits = |segment: &str| {
            let rest = segment.replace(TIMESTAMP, "t").replace(ID, "i");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !rest.is_empty() && !rest.starts_with('.') && !rest.starts_with('_') && rest.bytes().all(is_plain)
        };
        (text.contains(ID) && text.len() <= 200 && text.split('/').all(fits)).then(|| Self(text.to_owned()))
    }

    /// Reads the operator's layouts, `name=layout;name=layout`. A name is 1 to 64 letters, digits, `-`, `_` and `.`.
    pub fn parse_named(text: &str) -> Result<BTreeMap<String, Self>, InvalidLayout> {
        let read = |name: &str, layout: &str| if JSON_FORMATS.contains(&name) { None } else { Self::parse(layout) };
        parse_named(text, read).map_err(InvalidLayout)
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of one job.
    pub fn folder(&self, timestamp: &str, id: &str) -> String {
        self.0.replace(TIMESTAMP, timestamp).replace(ID, id)
    }
}

stored_as_text!(Layout, Self::parse, "not a layout");

/// A key that files can be encrypted under: the operator offers keys by name, `_encryptionKey` picks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobKey {
    /// As it is offered.
    pub name: String,
    /// As AWS KMS knows it. Clients know its name alone.
    pub arn: String,
}

/// A list of keys that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names `{0}`: a key is written name=ARN, such as trial=arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab, and no name twice"
)]
pub struct InvalidJobKey(String);

impl JobKey {
    /// Reads the operator's keys, `name=arn;name=arn`. A name is 1 to 64 letters, digits, `-`, `_` and `.`. An alias is no
    /// key: it could come to mean another one while a job is at work.
    pub fn parse_named(text: &str) -> Result<BTreeMap<String, Self>, InvalidJobKey> {
        let read = |name: &str, arn: &str| is_key_arn(arn).then(|| Self { name: name.to_owned(), arn: arn.to_owned() });
        parse_named(text, read).map_err(InvalidJobKey)
    }
}

/// Whether the text is `arn:<partition>:kms:<region>:<account>:key/<id>`.
fn is_key_arn(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let fields: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "kms", region, account, key] = fields.as_slice() else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_word(partition) && is_word(region) && is_account && key.strip_prefix("key/").is_some_and(is_word)
}

/// Reads what the operator offers by name, `name=value;name=value`, or says which pair cannot be read.
fn parse_named<T>(text: &str, read: impl Fn(&str, &str) -> Option<T>) -> Result<BTreeMap<String, T>, String> {
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
    };
    let mut offered = BTreeMap::new();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let invalid = || pair.to_owned();
        let (name, value) = pair.split_once('=').ok_or_else(invalid)?;
        let (name, value) = (name.trim(), value.trim());
        let value = read(name, value).filter(|_| is_name(name)).ok_or_else(invalid)?;
        if offered.insert(name.to_owned(), value).is_some() {
            return Err(invalid());
        }
    }
    Ok(offered)
}

/// The name of a place inside the destination: 3 to 63 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Container(String);

impl Container {
    /// Reads a container's name.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((3..=63).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The name itself: safe as a path segment and as a key prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(Container, Self::parse, "not a container's name");
