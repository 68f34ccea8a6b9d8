//! A token as it is sent: three pieces with dots between them (RFC 7515, section 3.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::VerifyingKey;

/// The longest token that is read, in bytes.
pub const TOKEN_LIMIT_BYTES: usize = 8 << 10;

/// The text is no signed token, or not one that we can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Longer than [`TOKEN_LIMIT_BYTES`].
    #[error("it is longer than 8 KiB")]
    Long,
    /// Not three pieces, not base64url, not JSON, a member twice.
    #[error("it is not a JWT of three base64url pieces whose first two are JSON objects")]
    Malformed,
    /// A header that must be understood and is not.
    #[error("its header has `crit`, which names extensions that are not supported here")]
    Critical,
}

/// The header of a token, as far as it concerns us. Keys that it brings along are not looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// The algorithm.
    pub alg: String,
    /// The key's name.
    pub kid: Option<String>,
    /// What the token is.
    pub typ: Option<String>,
    /// Where the key is.
    pub jku: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// A token, taken apart and believed in nothing yet. It is not shown by `Debug`.
pub struct Compact<'a> {
    /// Its header.
    pub header: Header,
    message: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub fn parse(text: &'a str) -> Result<Self, BadToken> {
        if text.len() > TOKEN_LIMIT_BYTES {
            return Err(BadToken::Long);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(BadToken::Malformed)?;
        let decode = |piece: &str| URL_SAFE_NO_PAD.decode(piece).map_err(|_| BadToken::Malformed);
        // A list would pass for a structure otherwise.
        let header = Some(decode(header)?).filter(|json| json.trim_ascii_start().starts_with(b"{")).ok_or(BadToken::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| BadToken::Malformed)?;
        if header.crit.is_some() {
            return Err(BadToken::Critical);
        }
        decode(signature)?;
        let payload = Some(decode(payload)?).filter(|json| json.trim_ascii_start().starts_with(b"{")).ok_or(BadToken::Malformed)?;
        Ok(Self { header, message, payload, signature })
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.verify(self.message.as_bytes(), self.signature)
    }

    /// What it claims.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, BadToken> {
        serde_json::from_slice(&self.payload).map_err(|_| BadToken::Malformed)
    }
}

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}
