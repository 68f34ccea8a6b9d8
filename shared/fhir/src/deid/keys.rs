//! The keys of a configuration, kept apart from it.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::config::Parameters;
use super::error::{DeidConfigError, DeidConfigIssue};
use super::methods::Hasher;
use crate::json::duplicate_member;

/// The maximum size of a keys file in bytes. KMS encrypts at most 4,096 bytes, and a job's secret holds the keys too.
pub const MAX_KEYS_BYTES: usize = 2_048;

/// The number of random bytes that [`DeidKeys::from_random`] needs.
pub const RANDOM_KEY_BYTES: usize = 88;

/// The keys of de-identification. An empty key is not given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeidKeys {
    crypto_hash_key: String,
    date_shift_key: String,
    encrypt_key: String,
}

impl fmt::Debug for DeidKeys {
    /// Formats a placeholder, so that keys are never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeidKeys")
    }
}

/// The error of a keys file. It names members, and no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys cannot be used: {0}")]
pub struct DeidKeysError(String);

impl DeidKeys {
    /// Parses a keys file: a JSON object with some of `cryptoHashKey`, `dateShiftKey` and `encryptKey`.
    pub fn parse(text: &[u8]) -> Result<Self, DeidKeysError> {
        let invalid = |reason: &str| DeidKeysError(reason.to_owned());
        if text.len() > MAX_KEYS_BYTES {
            return Err(DeidKeysError(format!("they have {} bytes; the maximum is {MAX_KEYS_BYTES}", text.len())));
        }
        // The parser's own error would quote a part of the text, which may be a key.
        let members: BTreeMap<String, String> = serde_json::from_slice(text).map_err(|_| {
            invalid("they are not a JSON object of strings such as {\"cryptoHashKey\": \"…\"}; `headrace deid keygen` writes one")
        })?;
        // The parser takes the last one. A configuration with one is rejected, too.
        if std::str::from_utf8(text).is_ok_and(|text| duplicate_member(text).is_some()) {
            return Err(invalid("a member occurs twice, so that it is unclear which key counts; remove one of them"));
        }
        let mut keys = Self::default();
        for (name, key) in members {
            match name.as_str() {
                "cryptoHashKey" => keys.crypto_hash_key = key,
                "dateShiftKey" => keys.date_shift_key = key,
                "encryptKey" => keys.encrypt_key = key,
                _ => return Err(invalid("a member is not one of cryptoHashKey, dateShiftKey and encryptKey")),
            }
        }
        if keys == Self::default() {
            return Err(invalid("none of cryptoHashKey, dateShiftKey and encryptKey is present"));
        }
        match keys.encrypt_key.len() {
            0 | 16 | 24 | 32 => Ok(keys),
            length => Err(DeidKeysError(format!("encryptKey has {length} bytes; an AES key has 16, 24 or 32"))),
        }
    }

    /// Creates three keys from random bytes. Each is text, as the format of configurations requires, so the 32 bytes of
    /// `encryptKey` hold 192 random bits.
    pub fn from_random(random: &[u8; RANDOM_KEY_BYTES]) -> Self {
        let (crypto_hash, rest) = random.split_at(32);
        let (date_shift, encrypt) = rest.split_at(32);
        Self {
            crypto_hash_key: hex::encode(crypto_hash),
            date_shift_key: hex::encode(date_shift),
            encrypt_key: URL_SAFE_NO_PAD.encode(encrypt),
        }
    }

    /// Writes the keys as JSON, which [`Self::parse`] reads.
    pub fn to_json(&self) -> String {
        let named = self.named().into_iter().filter(|(_, key)| !key.is_empty());
        serde_json::Value::Object(named.map(|(name, key)| (name.to_owned(), key.into())).collect()).to_string()
    }

    /// Returns a digest that changes with a configuration and with its keys, and reveals no key: the HMAC of the configuration under the keys.
    pub fn keyed_digest(&self, configuration: &[u8]) -> [u8; 32] {
        Hasher::new(self.to_json().as_bytes()).hash_parts(&[b"headrace anonymization configuration", configuration])
    }

    /// Returns each key with its name.
    fn named(&self) -> [(&'static str, &str); 3] {
        [("cryptoHashKey", &self.crypto_hash_key), ("dateShiftKey", &self.date_shift_key), ("encryptKey", &self.encrypt_key)]
    }

    /// Sets the keys in the parameters of a configuration. Fails if the configuration has one of them itself: it would be
    /// unclear which one counts.
    pub(super) fn apply_to(&self, parameters: &mut Parameters) -> Result<(), DeidConfigError> {
        let targets = [&mut parameters.crypto_hash_key, &mut parameters.date_shift_key, &mut parameters.encrypt_key];
        let mut twice = Vec::new();
        for ((name, key), target) in self.named().into_iter().zip(targets) {
            match (key.is_empty(), target.is_empty()) {
                (true, _) => {}
                (false, true) => key.clone_into(target),
                (false, false) => twice.push(DeidConfigIssue::in_file(format!(
                    "{name} is in the configuration and among its keys; remove it from the configuration"
                ))),
            }
        }
        if twice.is_empty() { Ok(()) } else { Err(DeidConfigError(twice)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_read_back_and_have_the_length_of_their_algorithm() {
        let random: [u8; RANDOM_KEY_BYTES] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let keys = DeidKeys::from_random(&random);
        assert_eq!((keys.crypto_hash_key.len(), keys.date_shift_key.len(), keys.encrypt_key.len()), (64, 64, 32));
        assert_eq!(DeidKeys::parse(keys.to_json().as_bytes()).unwrap(), keys);
    }

    #[test]
    fn invalid_keys_are_rejected_without_quoting_them() {
        for (text, words) in [
            (r#"{"cryptoHashKey":"canary""#, "not a JSON object"),
            (r#"{"cryptoHashKey":1}"#, "not a JSON object"),
            (r#"["canary"]"#, "not a JSON object"),
            (r#"{"cryptohashkey":"canary"}"#, "not one of cryptoHashKey"),
            (r#"{"cryptoHashKey":""}"#, "none of cryptoHashKey"),
            (r#"{"cryptoHashKey":"canary","cryptoHashKey":"canary2"}"#, "occurs twice"),
            (r#"{"cryptoHashKey":"canary","crypto\u0048ashKey":"canary2"}"#, "occurs twice"),
            (r#"{"encryptKey":"canary"}"#, "6 bytes"),
        ] {
            let error = DeidKeys::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{error}");
        }
        assert_eq!(format!("{:?}", DeidKeys::default()), "DeidKeys");
    }
}
