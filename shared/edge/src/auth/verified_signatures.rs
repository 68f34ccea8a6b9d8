//! The access tokens whose signatures were verified, so that a client that polls does not cost a signature for each poll.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

/// The most tokens that are remembered, 32 bytes each. They are valid for five minutes.
const MAX_TOKENS: usize = 4_096;

/// A cache of the digests of tokens whose signatures are valid. The digest covers the signature, and the header with the key's id, which is a
/// digest of the key: the result cannot change. Whether the key is still in use and what the token allows is checked for each request.
#[derive(Default)]
pub(super) struct VerifiedSignatures(Mutex<HashSet<[u8; 32]>>);

impl VerifiedSignatures {
    /// Returns true if the signature of a token is valid. `verify` is called unless the token is known.
    pub(super) fn is_valid(&self, token: &str, verify: impl FnOnce() -> bool) -> bool {
        let digest = Sha256::digest(token.as_bytes()).into();
        if self.tokens().contains(&digest) {
            return true;
        }
        let is_valid = verify();
        if is_valid {
            let mut tokens = self.tokens();
            if tokens.len() >= MAX_TOKENS {
                tokens.clear();
            }
            tokens.insert(digest);
        }
        is_valid
    }

    /// Locks the digests.
    fn tokens(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_verified_once_if_it_is_valid_and_each_time_if_it_is_not() {
        let cache = VerifiedSignatures::default();
        assert!(!cache.is_valid("a.b.c", || false));
        assert!(cache.is_valid("a.b.c", || true));
        assert!(cache.is_valid("a.b.c", || panic!("it is known")));
        assert!(!cache.is_valid("a.b.d", || false));
        for index in 0..=MAX_TOKENS {
            assert!(cache.is_valid(&index.to_string(), || true));
        }
        assert!(cache.tokens().len() <= MAX_TOKENS);
    }
}
