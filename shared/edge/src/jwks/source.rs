//! Key sets by URL, each kept as long as its owner allows.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;

use super::fetch::{FetchError, Fetcher, Trust};
use super::lifetime::lifetime;
use crate::jose::{Algorithm, KeyProblem, KeySet, VerifyingKey};

/// A key that is not in a kept set may have been added since; whoever invents names of keys fetches no oftener than this.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How long the set of the operator's identity provider is kept where that does not say. A client's is not kept then.
const UNSTATED: Duration = Duration::from_secs(300);

/// The most sets that are kept: one per client at work.
const KEPT: usize = 1_000;

/// Key sets by URL.
pub struct JwksSource<C> {
    fetcher: Fetcher,
    unstated: Duration,
    clock: C,
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Clone)]
struct Kept {
    set: KeySet,
    fetched: Millis,
    until: Millis,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The set could not be had.
    #[error("the keys could not be fetched")]
    Fetch(#[from] FetchError),
    /// It has no such key.
    #[error("the key set at the URL cannot be used: {0}")]
    Key(#[from] KeyProblem),
}

impl<C: Clock> JwksSource<C> {
    /// A source of sets whose URLs are named by whoever `trust` says.
    pub fn new(trust: Trust, clock: C) -> Self {
        let unstated = match trust {
            Trust::Clients | Trust::ClientsOfOneMachine => Duration::ZERO,
            Trust::Operator => UNSTATED,
        };
        Self { fetcher: Fetcher::new(trust), unstated, clock, kept: Mutex::default() }
    }

    /// The single key of this name for this algorithm in the set at the URL.
    pub async fn key(&self, url: &str, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, JwksError> {
        let now = self.clock.now();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some(kept) = kept.filter(|kept| now < kept.until)
            && (kept.set.names(kid) || now.since(kept.fetched) < LOOK_AGAIN)
        {
            return Ok(kept.set.key(kid, algorithm)?);
        }
        let (text, headers) = self.fetcher.fetch(url).await?;
        let set = KeySet::parse(&text)?;
        let key = set.key(kid, algorithm);
        self.keep(url, Kept { set, fetched: now, until: now + lifetime(&headers).unwrap_or(self.unstated) });
        Ok(key?)
    }

    fn keep(&self, url: &str, set: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, other| set.fetched < other.until);
        }
        if set.fetched < set.until && kept.len() < KEPT {
            kept.insert(url.to_owned(), set);
        } else {
            kept.remove(url);
        }
    }
}
