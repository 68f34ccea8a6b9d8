//! Parses the operator's lists of named values.

use std::collections::BTreeMap;

/// Parses a list of the form `name=value;name=value`. A name is 1 to 64 letters, digits, `-`, `_` and `.`, and must not be
/// repeated. Returns the text of the first invalid pair as the error.
pub(super) fn parse_named_values<T>(text: &str, parse: impl Fn(&str, &str) -> Option<T>) -> Result<BTreeMap<String, T>, String> {
    let is_name = |name: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
    };
    let mut values = BTreeMap::new();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let invalid = || pair.to_owned();
        let (name, value) = pair.split_once('=').ok_or_else(invalid)?;
        let (name, value) = (name.trim(), value.trim());
        let value = parse(name, value).filter(|_| is_name(name)).ok_or_else(invalid)?;
        if values.insert(name.to_owned(), value).is_some() {
            return Err(invalid());
        }
    }
    Ok(values)
}
