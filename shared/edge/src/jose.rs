//! Signed tokens (JOSE, RFC 7515 to 7519): parsed here, verified with `jsonwebtoken`.

mod algorithm;
mod audience;
mod jws;
mod key_set;
mod numeric_date;
mod public_key;

pub use algorithm::Algorithm;
pub use audience::Audience;
pub use jws::{CompactJws, JoseHeader, TOKEN_LIMIT_BYTES, TokenFormatError};
pub use key_set::{KeySet, KeySetError, VerifyingKey};
pub use numeric_date::NumericDate;
pub use public_key::{key_id, to_pem};
