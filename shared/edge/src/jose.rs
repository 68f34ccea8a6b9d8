//! Signed tokens as JOSE has them (RFC 7515 to 7519): taken apart here, checked with `jsonwebtoken`.

mod algorithm;
mod audience;
mod compact;
mod key_set;
mod public_key;
mod seconds;

pub use algorithm::Algorithm;
pub use audience::Audience;
pub use compact::{BadToken, Compact, Header, TOKEN_LIMIT_BYTES};
pub use key_set::{KeyProblem, KeySet, VerifyingKey};
pub use public_key::{key_id, pem_of};
pub use seconds::NumericDate;
