//! Signed tokens (JOSE, RFC 7515 to 7519): parsed here, verified with `jsonwebtoken`.

mod algorithm;
mod audience;
mod jws;
mod key_set;
mod numeric_date;
mod public_key;

use serde::{Deserialize, Deserializer};

pub use algorithm::Algorithm;
pub use audience::Audience;
pub use jws::{CompactJws, JoseHeader, TOKEN_LIMIT_BYTES, TokenFormatError};
pub use key_set::{KeySet, KeySetError, VerifyingKey};
pub use numeric_date::NumericDate;
pub use public_key::{key_id, to_pem};

/// Deserializes an optional member for `#[serde(default, deserialize_with = …)]`. Unlike `Option`, it does not take `null` for an
/// absent member: no member of a header, of claims or of a key may be `null`, and `"crit": null` must not hide the member.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}
