//! Our own keys, as others see them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::PublicKey;
use pem::{EncodeConfig, LineEnding, Pem};
use sha2::{Digest as _, Sha256};

/// The name of a key: the same wherever it is computed, and another for another key.
pub fn key_id(key: &PublicKey) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(&key.spki))
}

/// The key as PEM (RFC 7468, section 13).
pub fn pem_of(key: &PublicKey) -> String {
    pem::encode_config(&Pem::new("PUBLIC KEY", key.spki.as_slice()), EncodeConfig::new().set_line_ending(LineEnding::LF))
}
