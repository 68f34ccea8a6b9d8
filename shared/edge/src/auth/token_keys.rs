//! The public keys of access tokens that this service issues, cached from the job table.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use crate::jose::VerifyingKey;

/// The time for which a key is used without reading the table again: the longest delay after an operator removes a key.
const CACHE_LIFETIME: Duration = Duration::from_secs(300);

/// The maximum number of cached keys. It exceeds the number of keys that are ever in use.
const MAX_CACHED_KEYS: usize = 16;

/// A cache of keys by key id.
#[derive(Default)]
pub(super) struct TokenKeyCache(Mutex<HashMap<String, CachedKey>>);

/// A key of access tokens that was read from the job table.
#[derive(Clone)]
struct CachedKey {
    key: VerifyingKey,
    /// The end of the key's validity.
    until: Millis,
    read_at: Millis,
}

impl TokenKeyCache {
    /// Returns the key of this id. `None` if it is unknown or no longer valid.
    pub(super) async fn verifying_key(&self, store: &impl AccessStore, kid: &str, now: Millis) -> Result<Option<VerifyingKey>, StoreError> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kid).cloned();
        let cached = match cached.filter(|cached| now.since(cached.read_at) < CACHE_LIFETIME && now < cached.until) {
            Some(cached) => cached,
            None => {
                let Some(stored) = store.token_key(kid).await? else { return Ok(None) };
                let Some(key) = VerifyingKey::from_token_key(&stored) else {
                    return Err(StoreError::Unreadable { store: "the job table", detail: format!("the token key {kid}") });
                };
                let cached = CachedKey { key, until: stored.expires_at, read_at: now };
                let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if keys.len() >= MAX_CACHED_KEYS {
                    keys.clear();
                }
                keys.insert(kid.to_owned(), cached.clone());
                cached
            }
        };
        Ok((now < cached.until).then_some(cached.key))
    }
}
