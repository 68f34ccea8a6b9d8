//! A cache of key sets by URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use url::Url;

use super::fetch::{FetchError, Fetcher};
use super::lifetime::cache_lifetime;
use super::url_policy::UrlPolicy;
use crate::jose::{Algorithm, KeySet, KeySetError, VerifyingKey};

/// The shortest time between two fetches of a URL, whatever the first one gave and whatever its response says about caching.
/// Anyone can send assertions with invented key ids, and they must not become a flood at the client's server.
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);

/// The lifetime of the operator's identity provider's set if the response states none. A client's set is then fetched again as
/// soon as [`REFETCH_INTERVAL`] allows.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The most URLs that are remembered: one per active client.
const MAX_URLS: usize = 1_000;

/// A cache of key sets by URL, which fetches them.
pub struct JwksCache<C> {
    fetcher: Fetcher,
    default_lifetime: Duration,
    clock: C,
    urls: Mutex<HashMap<String, Arc<LastFetch>>>,
}

/// The last fetch of a URL. The lock is held during a fetch, so that concurrent requests wait for its result.
type LastFetch = tokio::sync::Mutex<Option<Fetched>>;

/// The result of a fetch.
struct Fetched {
    result: Result<KeySet, JwksError>,
    started: Millis,
    /// The end of the cache lifetime.
    until: Millis,
}

/// The reason why a key is not available.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JwksError {
    /// The set could not be fetched.
    #[error("the keys could not be fetched")]
    Fetch(#[source] Arc<FetchError>),
    /// The set has no such key.
    #[error("the key set at the URL cannot be used: {0}")]
    Key(#[from] KeySetError),
}

impl Fetched {
    /// Creates the result of a fetch that does not end.
    fn interrupted(started: Millis) -> Self {
        let error = JwksError::Fetch(Arc::new(FetchError::Failed("the fetch was interrupted".into())));
        Self { result: Err(error), started, until: started }
    }

    /// Returns true if the URL must not be fetched again yet.
    fn is_recent(&self, now: Millis) -> bool {
        self.started <= now && now.since(self.started) < REFETCH_INTERVAL
    }

    /// Returns true if the set may still be used and has a key of this id. A set without it may have got the key since.
    fn has_valid_key(&self, kid: &str, now: Millis) -> bool {
        now < self.until && self.result.as_ref().is_ok_and(|set| set.has_key(kid))
    }
}

impl<C: Clock> JwksCache<C> {
    /// Creates an empty cache for URLs under this policy.
    pub fn new(policy: UrlPolicy, clock: C) -> Self {
        let default_lifetime = match policy {
            UrlPolicy::Clients | UrlPolicy::LocalClients => Duration::ZERO,
            UrlPolicy::Operator => DEFAULT_LIFETIME,
        };
        Self { fetcher: Fetcher::new(policy), default_lifetime, clock, urls: Mutex::default() }
    }

    /// Returns the one key of this id and algorithm in the set at the URL. Fetches the set if no usable one is cached and the last
    /// fetch is not too recent.
    pub async fn verifying_key(&self, url: &str, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, JwksError> {
        let last_fetch = self.last_fetch(url);
        let mut last_fetch = last_fetch.lock().await;
        let now = self.clock.now();
        let fetched = match last_fetch.take().filter(|last| last.is_recent(now) || last.has_valid_key(kid, now)) {
            Some(last) => last,
            None => {
                // A fetch also counts if the sender of the request goes away before it ends.
                *last_fetch = Some(Fetched::interrupted(now));
                self.fetch(url, now).await
            }
        };
        let key = fetched.result.clone().and_then(|set| Ok(set.verifying_key(kid, algorithm)?));
        *last_fetch = Some(fetched);
        key
    }

    /// Fetches a set. A failure is logged and is a result like a set: it is not tried again at once.
    async fn fetch(&self, url: &str, now: Millis) -> Fetched {
        let fetched = self.fetcher.fetch(url).await.map_err(|error| JwksError::Fetch(Arc::new(error)));
        let fetched = fetched.and_then(|(text, headers)| Ok((KeySet::parse(&text)?, headers)));
        match fetched {
            Ok((set, headers)) => {
                let until = now + cache_lifetime(&headers).unwrap_or(self.default_lifetime);
                Fetched { result: Ok(set), started: now, until }
            }
            Err(error) => {
                tracing::warn!(
                    url = without_query(url),
                    error = &error as &dyn std::error::Error,
                    "a key set could not be read; it is fetched again in ten seconds at the earliest"
                );
                Fetched { result: Err(error), started: now, until: now }
            }
        }
    }

    /// Returns the last fetch of a URL. If the cache is full, URLs that may be fetched again are forgotten, or else any one.
    fn last_fetch(&self, url: &str) -> Arc<LastFetch> {
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = urls.get(url) {
            return Arc::clone(known);
        }
        if urls.len() >= MAX_URLS {
            let now = self.clock.now();
            let is_needed = |fetched: &Fetched| fetched.is_recent(now) || now < fetched.until;
            urls.retain(|_, last| last.try_lock().map_or(true, |last| last.as_ref().is_some_and(is_needed)));
            if urls.len() >= MAX_URLS
                && let Some(any) = urls.keys().next().cloned()
            {
                urls.remove(&any);
            }
        }
        Arc::clone(urls.entry(url.to_owned()).or_default())
    }
}

/// Returns the URL for the log, without its query, which may contain a secret.
fn without_query(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| "not a URL".to_owned(),
        |mut url| {
            url.set_query(None);
            url.into()
        },
    )
}
