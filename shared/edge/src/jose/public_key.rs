//! The public half of the keys that this service signs with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::PublicKey;
use pem::{EncodeConfig, LineEnding, Pem};
use sha2::{Digest as _, Sha256};

/// Computes the id of a key: the SHA-256 digest of its SubjectPublicKeyInfo, in base64url.
pub fn key_id(key: &PublicKey) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(&key.spki))
}

/// Encodes the key as PEM (RFC 7468, section 13).
pub fn to_pem(key: &PublicKey) -> String {
    pem::encode_config(&Pem::new("PUBLIC KEY", key.spki.as_slice()), EncodeConfig::new().set_line_ending(LineEnding::LF))
}
