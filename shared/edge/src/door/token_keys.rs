//! The keys that our access tokens are checked with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use crate::jose::VerifyingKey;

/// How long a key is kept without another look into the table: an operator who removes one waits no longer.
const KEPT: Duration = Duration::from_secs(300);

/// More keys than are ever in use.
const KEYS: usize = 16;

/// Keys by name, as the table has them.
#[derive(Default)]
pub(super) struct TokenKeys(Mutex<HashMap<String, Kept>>);

#[derive(Clone)]
struct Kept {
    key: VerifyingKey,
    /// The key's own end.
    until: Millis,
    seen: Millis,
}

impl TokenKeys {
    /// The key of this name, if there is one and tokens of it are believed still.
    pub(super) async fn key(&self, store: &impl AccessStore, kid: &str, now: Millis) -> Result<Option<VerifyingKey>, StoreError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kid).cloned();
        let kept = match kept.filter(|kept| now.since(kept.seen) < KEPT && now < kept.until) {
            Some(kept) => kept,
            None => {
                let Some(found) = store.token_key(kid).await? else { return Ok(None) };
                let Some(key) = VerifyingKey::of(&found) else {
                    return Err(StoreError::Unreadable { what: "the job table", detail: format!("the token key {kid}") });
                };
                let kept = Kept { key, until: found.until, seen: now };
                let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if keys.len() >= KEYS {
                    keys.clear();
                }
                keys.insert(kid.to_owned(), kept.clone());
                kept
            }
        };
        Ok((now < kept.until).then_some(kept.key))
    }
}
