//! One look at a URL.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use headrace_core::vocab::error::BoxError;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::ACCEPT;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use tokio::sync::OnceCell;
use url::{Host, Url};

use super::address::is_public;

/// The longest that a fetch takes, from the name's resolution to the last byte.
const TIME: Duration = Duration::from_secs(5);

/// The longest key set that is read, in bytes.
const LIMIT_BYTES: usize = 256 << 10;

/// Who has named the URLs, and so where they may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Clients: to public addresses, by https.
    Clients,
    /// Clients of one machine: the same, and to the machine itself, by http too.
    ClientsOfOneMachine,
    /// The operator, in a setting: wherever it says.
    Operator,
}

/// Why there is no key set. For the log: the client is told that there is none, and not what stands where it pointed to.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that may be fetched.
    #[error("the URL of the keys is refused: {0}")]
    Refused(&'static str),
    /// No answer, or not in time.
    #[error("the URL of the keys was not answered")]
    Failed(#[source] BoxError),
    /// Another answer than 200: a redirect, too.
    #[error("the URL of the keys was answered with status {0}")]
    Status(u16),
    /// Too much of it.
    #[error("the answer is longer than 256 KiB")]
    Long,
}

/// Fetches over HTTP, with one client for the life of the process.
pub(super) struct Fetcher {
    trust: Trust,
    client: OnceCell<Client>,
}

impl Fetcher {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, client: OnceCell::new() }
    }

    /// The body and the headers of what is there.
    pub(super) async fn fetch(&self, url: &str) -> Result<(Vec<u8>, HeaderMap), FetchError> {
        let url = allowed(url, self.trust)?;
        let failed = |error: reqwest::Error| FetchError::Failed(error.without_url().into());
        let client = self.client.get_or_try_init(async || client(self.trust)).await.map_err(failed)?;
        let mut response = client.get(url).header(ACCEPT, "application/json").send().await.map_err(failed)?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LIMIT_BYTES {
                return Err(FetchError::Long);
            }
        }
        Ok((body, response.headers().clone()))
    }
}

fn client(trust: Trust) -> Result<Client, reqwest::Error> {
    // A proxy of the environment would be asked for names and addresses that are judged here.
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIME).referer(false);
    match trust {
        Trust::Clients | Trust::ClientsOfOneMachine => client.dns_resolver(Resolver(trust)).build(),
        Trust::Operator => client.build(),
    }
}

/// The URL, if it may be fetched. An address in it is judged here, that of a name when the connection is made.
fn allowed(url: &str, trust: Trust) -> Result<Url, FetchError> {
    let url = Url::parse(url).map_err(|_| FetchError::Refused("it is no absolute URL"))?;
    if trust == Trust::Operator {
        return Ok(url);
    }
    let is_ours = |address: IpAddr| trust == Trust::ClientsOfOneMachine && address.is_loopback();
    let (is_open, is_local) = match url.host() {
        Some(Host::Domain(name)) => (true, trust == Trust::ClientsOfOneMachine && name == "localhost"),
        Some(Host::Ipv4(address)) => (is_public(address.into()) || is_ours(address.into()), is_ours(address.into())),
        Some(Host::Ipv6(address)) => (is_public(address.into()) || is_ours(address.into()), is_ours(address.into())),
        None => (false, false),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Refused("it names a user"));
    }
    if !(url.scheme() == "https" || url.scheme() == "http" && is_local) {
        return Err(FetchError::Refused("it is not https"));
    }
    if is_open { Ok(url) } else { Err(FetchError::Refused("its address is not public")) }
}

/// Resolves names to public addresses alone. The connection is made to what is returned here, so that no second answer of
/// a name server can lead elsewhere.
#[derive(Clone, Copy, Debug)]
struct Resolver(Trust);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_ours = self.0 == Trust::ClientsOfOneMachine && name.as_str() == "localhost";
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found.filter(|address| is_public(address.ip()) || is_ours && address.ip().is_loopback()).collect();
            if open.is_empty() {
                return Err(BoxError::from("the name leads to no public address"));
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Holds: SEC-A8
    #[test]
    fn a_clients_url_leads_to_the_public_internet_by_https() {
        for url in ["https://ehr.example/jwks", "https://ehr.example:8443/a/jwks?x=1", "https://8.8.8.8/", "https://[2606:4700::1111]/"] {
            for trust in [Trust::Clients, Trust::ClientsOfOneMachine] {
                assert!(allowed(url, trust).is_ok(), "{url}");
            }
        }
        for url in ["http://127.0.0.1:81/jwks", "http://[::1]/", "http://localhost:8080/jwks", "https://127.0.0.1/"] {
            assert!(allowed(url, Trust::ClientsOfOneMachine).is_ok(), "{url}");
            assert!(allowed(url, Trust::Clients).is_err(), "{url}");
        }
        for url in [
            "",
            "jwks",
            "/jwks",
            "ehr.example",
            "http://ehr.example/jwks",
            "ftp://ehr.example/",
            "file:///etc/passwd",
            "data:,x",
            "https://user@ehr.example/",
            "https://user:pw@ehr.example/",
            "https://:pw@ehr.example/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[fd00:ec2::254]/",
            "https://[::ffff:10.0.0.1]/",
            // Other spellings of addresses, which URLs may have.
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://0251.0376.0251.0376/",
            "https://10.1/",
            "http://8.8.8.8/",
            "http://localhost.ehr.example/",
            "https://192.168.0.1.:443/",
            "https://１０.0.0.1/",
        ] {
            for trust in [Trust::Clients, Trust::ClientsOfOneMachine] {
                assert!(allowed(url, trust).is_err(), "{url}");
            }
        }
    }

    // Holds: SEC-A8
    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to() {
        let resolve = |trust| Resolver(trust).resolve("localhost".parse().unwrap());
        assert!(resolve(Trust::Clients).await.is_err());
        assert!(resolve(Trust::ClientsOfOneMachine).await.unwrap().all(|address| address.ip().is_loopback()));
        // The whole way: the name is good, and what it leads to is not.
        let error = Fetcher::new(Trust::Clients).fetch("https://localhost/").await.unwrap_err();
        assert!(matches!(error, FetchError::Failed(_)), "{error}");
    }
}
