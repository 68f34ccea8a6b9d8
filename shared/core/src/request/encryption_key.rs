//! Keys that encrypt output files (`_encryptionKey`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::named_values::parse_named_values;

/// A KMS key that encrypts output files. The operator offers keys by name, and `_encryptionKey` selects one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionKey {
    /// The name.
    pub name: String,
    /// The ARN of the key. It is not shown to clients.
    pub arn: String,
}

/// The error for an invalid list of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names `{0}`: a key is written name=ARN, such as trial=arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab, and no name twice"
)]
pub struct InvalidEncryptionKey(String);

impl EncryptionKey {
    /// Parses the operator's keys, `name=ARN;name=ARN`. A name is 1 to 64 letters, digits, `-`, `_` and `.`. Aliases are
    /// rejected, because an alias can be changed to another key while a job is running.
    pub fn parse_list(text: &str) -> Result<BTreeMap<String, Self>, InvalidEncryptionKey> {
        let parse = |name: &str, arn: &str| is_key_arn(arn).then(|| Self { name: name.to_owned(), arn: arn.to_owned() });
        parse_named_values(text, parse).map_err(InvalidEncryptionKey)
    }
}

/// Returns true if the text has the form `arn:<partition>:kms:<region>:<account>:key/<id>`.
fn is_key_arn(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let fields: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "kms", region, account, key] = fields.as_slice() else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_word(partition) && is_word(region) && is_account && key.strip_prefix("key/").is_some_and(is_word)
}
