//! The compact serialization of a signed token: three base64url parts, separated by dots (RFC 7515, section 3.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{VerifyingKey, present};

/// The longest token that is parsed, in bytes.
pub const TOKEN_LIMIT_BYTES: usize = 8 << 10;

/// The error for a text that is not a signed token, or not one that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormatError {
    /// The token is longer than [`TOKEN_LIMIT_BYTES`].
    #[error("it is longer than 8 KiB")]
    TooLong,
    /// The token has not three parts, is not base64url, not JSON, or repeats a JSON member.
    #[error("it is not a JWT of three base64url parts whose first two are JSON objects")]
    Malformed,
    /// The header demands extensions that are not supported.
    #[error("its header has `crit`, which names extensions that are not supported here")]
    CriticalExtension,
}

/// The supported members of a token's header. Keys inside the header are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct JoseHeader {
    /// The algorithm.
    pub alg: String,
    /// The key's id.
    #[serde(default, deserialize_with = "present")]
    pub kid: Option<String>,
    /// The type of the token.
    #[serde(default, deserialize_with = "present")]
    pub typ: Option<String>,
    /// The URL of the key set.
    #[serde(default, deserialize_with = "present")]
    pub jku: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// A parsed token whose signature is not yet verified. `Debug` does not show its contents.
pub struct CompactJws<'a> {
    /// The header.
    pub header: JoseHeader,
    message: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
}

impl<'a> CompactJws<'a> {
    /// Parses a token, a JWS in compact form. Does not verify the signature.
    pub fn parse(text: &'a str) -> Result<Self, TokenFormatError> {
        if text.len() > TOKEN_LIMIT_BYTES {
            return Err(TokenFormatError::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(TokenFormatError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenFormatError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFormatError::Malformed);
        // serde_json would accept a JSON array for a struct.
        let header = Some(decode(header)?).filter(|json| json.trim_ascii_start().starts_with(b"{")).ok_or(TokenFormatError::Malformed)?;
        let header: JoseHeader = serde_json::from_slice(&header).map_err(|_| TokenFormatError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenFormatError::CriticalExtension);
        }
        decode(signature)?;
        let payload = Some(decode(payload)?).filter(|json| json.trim_ascii_start().starts_with(b"{")).ok_or(TokenFormatError::Malformed)?;
        Ok(Self { header, message, payload, signature })
    }

    /// Returns true if the token is signed with this key.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.verify(self.message.as_bytes(), self.signature)
    }

    /// Parses the payload as claims. Does not verify the signature: call [`Self::is_signed_by`] first.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, TokenFormatError> {
        serde_json::from_slice(&self.payload).map_err(|_| TokenFormatError::Malformed)
    }
}

impl fmt::Debug for CompactJws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}
