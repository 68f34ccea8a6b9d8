//! A cache of key sets by URL.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;

use super::fetch::{FetchError, Fetcher};
use super::lifetime::cache_lifetime;
use super::url_policy::UrlPolicy;
use crate::jose::{Algorithm, KeySet, KeySetError, VerifyingKey};

/// The shortest time between two fetches of a cached set. A key that the set lacks may have been added since, but unknown
/// key ids must not cause a fetch each.
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);

/// The lifetime of the operator's identity provider's set if the response states none. A client's set is not cached then.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The most sets that are cached: one per active client.
const MAX_CACHED_SETS: usize = 1_000;

/// Fetches key sets and caches them by URL.
pub struct JwksCache<C> {
    fetcher: Fetcher,
    default_lifetime: Duration,
    clock: C,
    cached: Mutex<HashMap<String, CachedSet>>,
}

#[derive(Clone)]
struct CachedSet {
    set: KeySet,
    fetched: Millis,
    until: Millis,
}

/// The reason why a key is not available.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The set could not be fetched.
    #[error("the keys could not be fetched")]
    Fetch(#[from] FetchError),
    /// The set has no such key.
    #[error("the key set at the URL cannot be used: {0}")]
    Key(#[from] KeySetError),
}

impl<C: Clock> JwksCache<C> {
    /// Creates an empty cache for URLs under this policy.
    pub fn new(policy: UrlPolicy, clock: C) -> Self {
        let default_lifetime = match policy {
            UrlPolicy::Clients | UrlPolicy::LocalClients => Duration::ZERO,
            UrlPolicy::Operator => DEFAULT_LIFETIME,
        };
        Self { fetcher: Fetcher::new(policy), default_lifetime, clock, cached: Mutex::default() }
    }

    /// Returns the one key of this id and algorithm in the set at the URL. Fetches the set if it is not cached.
    pub async fn verifying_key(&self, url: &str, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, JwksError> {
        let now = self.clock.now();
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some(cached) = cached.filter(|cached| now < cached.until)
            && (cached.set.has_key(kid) || now.since(cached.fetched) < REFETCH_INTERVAL)
        {
            return Ok(cached.set.verifying_key(kid, algorithm)?);
        }
        let (text, headers) = self.fetcher.fetch(url).await?;
        let set = KeySet::parse(&text)?;
        let key = set.verifying_key(kid, algorithm);
        let until = now + cache_lifetime(&headers).unwrap_or(self.default_lifetime);
        self.store(url, CachedSet { set, fetched: now, until });
        Ok(key?)
    }

    /// Caches a set. If the cache is full, expired sets are removed first.
    fn store(&self, url: &str, set: CachedSet) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= MAX_CACHED_SETS {
            cached.retain(|_, other| set.fetched < other.until);
        }
        if set.fetched < set.until && cached.len() < MAX_CACHED_SETS {
            cached.insert(url.to_owned(), set);
        } else {
            cached.remove(url);
        }
    }
}
