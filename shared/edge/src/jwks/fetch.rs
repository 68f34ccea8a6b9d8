//! Fetches a key set from its URL.

use std::net::SocketAddr;
use std::time::Duration;

use headrace_core::vocab::error::BoxError;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::ACCEPT;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use tokio::sync::OnceCell;

use super::address::is_public;
use super::url_policy::{InvalidJwksUrl, UrlPolicy};

/// The longest duration of a fetch, from name resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest accepted key set, in bytes.
const LIMIT_BYTES: usize = 256 << 10;

/// The reason why a key set was not fetched. Logged only: the client gets a generic error, so that the fetch cannot be used
/// to probe the network.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL must not be fetched.
    #[error("the URL of the keys is not allowed")]
    InvalidUrl(#[from] InvalidJwksUrl),
    /// The server did not respond in time.
    #[error("the URL of the keys did not respond")]
    Failed(#[source] BoxError),
    /// The response has a status other than 200. Redirects are not followed.
    #[error("the URL of the keys responded with status {0}")]
    Status(u16),
    /// The response is longer than 256 KiB.
    #[error("the response is longer than 256 KiB")]
    TooLong,
}

/// The fetch of key sets over HTTP, with one client for the life of the process.
pub(super) struct Fetcher {
    policy: UrlPolicy,
    client: OnceCell<Client>,
}

impl Fetcher {
    /// Creates a fetcher for URLs that the policy allows. The HTTP client is built at the first fetch.
    pub(super) fn new(policy: UrlPolicy) -> Self {
        Self { policy, client: OnceCell::new() }
    }

    /// Fetches a URL. Returns the body and the headers of the response.
    pub(super) async fn fetch(&self, url: &str) -> Result<(Vec<u8>, HeaderMap), FetchError> {
        let url = self.policy.parse_url(url)?;
        let failed = |error: reqwest::Error| FetchError::Failed(error.without_url().into());
        let client = self.client.get_or_try_init(async || build_client(self.policy)).await.map_err(failed)?;
        let mut response = client.get(url).header(ACCEPT, "application/json").send().await.map_err(failed)?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LIMIT_BYTES {
                return Err(FetchError::TooLong);
            }
        }
        Ok((body, response.headers().clone()))
    }
}

/// Builds the HTTP client of a policy. It follows no redirects and uses no proxy.
pub(crate) fn build_client(policy: UrlPolicy) -> Result<Client, reqwest::Error> {
    // No proxy: it would resolve names itself, past the checks of `Resolver`.
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).referer(false);
    match policy {
        UrlPolicy::Clients | UrlPolicy::LocalClients => client.dns_resolver(Resolver(policy)).build(),
        UrlPolicy::Operator => client.build(),
    }
}

/// A resolver of names to public addresses only. The connection is made to the addresses that it returns, so that a second answer
/// of the name server cannot lead elsewhere (DNS rebinding).
#[derive(Clone, Copy, Debug)]
struct Resolver(UrlPolicy);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allows_loopback = self.0.allows_loopback(name.as_str());
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let is_allowed = |address: &SocketAddr| is_public(address.ip()) || allows_loopback && address.ip().is_loopback();
            let allowed: Vec<SocketAddr> = resolved.filter(is_allowed).collect();
            if allowed.is_empty() {
                return Err(BoxError::from("the name resolves to no public address"));
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Holds: SEC-A8
    #[tokio::test]
    async fn no_connection_is_made_to_a_name_that_resolves_to_a_private_address() {
        let resolve = |policy| Resolver(policy).resolve("localhost".parse().unwrap());
        assert!(resolve(UrlPolicy::Clients).await.is_err());
        assert!(resolve(UrlPolicy::LocalClients).await.unwrap().all(|address| address.ip().is_loopback()));
        // End to end: the name is allowed, its address is not.
        let error = Fetcher::new(UrlPolicy::Clients).fetch("https://localhost/").await.unwrap_err();
        assert!(matches!(error, FetchError::Failed(_)), "{error}");
    }
}
