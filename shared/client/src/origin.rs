//! Rules for the URLs of a server: which are used at all, which get the access token, and which go through a proxy.

use std::net::IpAddr;

use reqwest::Url;
use url::{Host, Origin};

use crate::error::shown_url;

/// Reason why a URL is not used.
#[derive(Debug, thiserror::Error)]
pub enum UnsafeUrl {
    /// The text is not an absolute URL of HTTP.
    #[error("`{0}` is not a URL that begins with http:// or https://")]
    NotHttp(String),
    /// The base URL has parts that a base URL does not have.
    #[error("the base URL {0} must not have a query or a fragment (`?`, `#`)")]
    BaseWithQuery(String),
    /// The URL has a user name or a password.
    #[error("the URL {0} has a user name or a password; use --token or --client-id")]
    WithPassword(String),
    /// The base URL is plain HTTP beyond this machine, and the client has a credential.
    #[error("no access token is sent to {0}: outside this machine, tokens are sent by https:// only")]
    TokenOverHttp(String),
    /// The server is reached by TLS, and leads to a URL without it.
    #[error("{from} uses https and leads to {to}, which does not; patient data must not be sent unencrypted")]
    Downgrade {
        /// The URL that leads there.
        from: String,
        /// The URL without TLS.
        to: String,
    },
    /// A server beyond this machine leads to this machine.
    #[error("{from} leads to {to}, an address of this machine or of its local link")]
    LeadsInside {
        /// The URL that leads there.
        from: String,
        /// The address.
        to: String,
    },
    /// The server redirects to another server.
    #[error("{from} is redirected to {to}, another server, which is not read")]
    AnotherServer {
        /// The URL that leads there.
        from: String,
        /// The URL of the other server.
        to: String,
    },
    /// The server names a URL that no server needs.
    #[error("the server names a URL of more than {} KiB", MAX_URL_BYTES >> 10)]
    TooLong,
    /// The redirects have no end.
    #[error("{0} is redirected more than {MAX_REDIRECTS} times")]
    TooManyRedirects(String),
}

/// The most redirects of one request.
pub const MAX_REDIRECTS: usize = 5;

/// The longest URL that a server may name, in bytes. Clients keep the links that they have followed in memory.
pub(crate) const MAX_URL_BYTES: usize = 16 << 10;

/// The rules for the URLs of one server.
#[derive(Clone, Debug)]
pub struct UrlRules {
    base: Url,
    /// Origins that get the token besides the base URL's.
    token_origins: Vec<Origin>,
}

impl UrlRules {
    /// Creates the rules for the server with this base URL. `has_credential` is true if the client has a token or a key.
    pub fn new(base: &str, token_origins: &[Url], has_credential: bool) -> Result<Self, UnsafeUrl> {
        let base = parse_http_url(base)?;
        if base.query().is_some() || base.fragment().is_some() {
            return Err(UnsafeUrl::BaseWithQuery(shown_url(&base)));
        }
        if has_credential && !is_confidential(&base) {
            return Err(UnsafeUrl::TokenOverHttp(shown_url(&base)));
        }
        Ok(Self { base, token_origins: token_origins.iter().map(Url::origin).collect() })
    }

    /// Returns the base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Returns the URL that a server names with `text` in a response from `from`, if it may be used.
    pub fn resolve(&self, from: &Url, text: &str) -> Result<Url, UnsafeUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(UnsafeUrl::TooLong);
        }
        let url = from.join(text).map_err(|_| UnsafeUrl::NotHttp(crate::text::shorten(text, 200)))?;
        self.check(&url)?;
        Ok(url)
    }

    /// Returns an error if a URL that the server named must not be used.
    pub fn check(&self, url: &Url) -> Result<(), UnsafeUrl> {
        let (from, to) = (shown_url(&self.base), shown_url(url));
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(UnsafeUrl::NotHttp(to));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UnsafeUrl::WithPassword(to));
        }
        if self.base.scheme() == "https" && url.scheme() == "http" {
            return Err(UnsafeUrl::Downgrade { from, to });
        }
        if !is_loopback(&self.base) && !is_link_local(&self.base) && (is_loopback(url) || is_link_local(url)) {
            return Err(UnsafeUrl::LeadsInside { from, to });
        }
        Ok(())
    }

    /// Returns true if requests for this URL may have the access token: its origin is the base URL's or was allowed by name, and
    /// nobody on the way can read it.
    pub fn receives_token(&self, url: &Url) -> bool {
        let origin = url.origin();
        is_confidential(url) && (origin == self.base.origin() || self.token_origins.contains(&origin))
    }
}

/// Parses an absolute URL of HTTP without a user name or password.
pub fn parse_http_url(text: &str) -> Result<Url, UnsafeUrl> {
    let url = Url::parse(text).map_err(|_| UnsafeUrl::NotHttp(crate::text::shorten(text, 200)))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(UnsafeUrl::NotHttp(shown_url(&url)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UnsafeUrl::WithPassword(shown_url(&url)));
    }
    Ok(url)
}

/// Returns true if requests for this URL use TLS or do not leave this machine.
pub fn is_confidential(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Returns true if the host of a URL is this machine. Such requests never go through a proxy.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost") || name == "localhost.",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => {
            let address = address.to_canonical();
            address.is_loopback() || address.is_unspecified()
        }
        None => false,
    }
}

/// Returns true if the host of a URL is an address of the local link, such as the metadata services of clouds.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => match address.to_canonical() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        },
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a URL.
    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_token_goes_to_the_origin_of_the_base_url_and_to_those_that_are_allowed_by_name() {
        let rules = UrlRules::new("https://fhir.example.org/r4", &[url("https://files.example.org/x")], true).unwrap();
        for (target, expected) in [
            ("https://fhir.example.org/status/1", true),
            ("https://fhir.example.org:443/", true),
            ("https://FHIR.example.org/", true),
            ("https://files.example.org/1", true),
            ("https://fhir.example.org:8443/", false),
            ("http://fhir.example.org/", false),
            ("https://fhir.example.org.evil.example/", false),
            ("https://evil.example/fhir.example.org", false),
            ("https://other.example.org/", false),
        ] {
            assert_eq!(rules.receives_token(&url(target)), expected, "{target}");
        }
        let local = UrlRules::new("http://127.0.0.1:8080/fhir", &[url("http://files.example.org/")], true).unwrap();
        assert!(local.receives_token(&url("http://127.0.0.1:8080/x")));
        assert!(!local.receives_token(&url("http://127.0.0.1:8081/x")));
        assert!(!local.receives_token(&url("http://files.example.org/x")), "not even if it was allowed by name");
    }

    #[test]
    fn a_token_is_never_sent_over_plain_http_beyond_this_machine() {
        for (base, is_allowed) in [
            ("http://fhir.example.org/r4", false),
            ("http://192.168.1.7/r4", false),
            ("http://localhost.example.org/", false),
            ("https://fhir.example.org/r4", true),
            ("http://localhost:8080/fhir", true),
            ("http://127.0.0.5/fhir", true),
            ("http://[::1]:8080/fhir", true),
            ("http://[::ffff:127.0.0.1]/fhir", true),
        ] {
            assert_eq!(UrlRules::new(base, &[], true).is_ok(), is_allowed, "{base}");
            assert!(UrlRules::new(base, &[], false).is_ok(), "{base}");
        }
    }

    #[test]
    fn a_server_cannot_lead_the_client_to_plain_http_or_to_this_machine() {
        let rules = UrlRules::new("https://fhir.example.org/r4", &[], false).unwrap();
        let [signed, endless] = [1_000, 20_000].map(|length| format!("/files/{}", "x".repeat(length)));
        for (target, is_allowed) in [
            ("https://files.example.org/1?X-Amz-Signature=1", true),
            ("../Patient-1.ndjson", true),
            ("http://fhir.example.org/1", false),
            ("https://127.0.0.1/1", false),
            ("https://localhost/1", false),
            ("https://[::1]/1", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://[fe80::1]/", false),
            ("https://me:secret@files.example.org/1", false),
            ("file:///etc/passwd", false),
            ("ftp://files.example.org/1", false),
            ("data:text/plain,x", false),
            (signed.as_str(), true),
            (endless.as_str(), false),
        ] {
            assert_eq!(rules.resolve(rules.base(), target).is_ok(), is_allowed, "{target}");
        }
        let plain = UrlRules::new("http://192.168.1.7/r4", &[], false).unwrap();
        assert!(plain.check(&url("http://169.254.169.254/latest")).is_err());
        assert!(plain.check(&url("http://127.0.0.1:9/")).is_err());
        assert!(plain.check(&url("https://files.example.org/")).is_ok());
    }

    #[test]
    fn a_base_url_has_no_query_no_fragment_and_no_password() {
        for base in
            ["https://h.example/r4?x=1", "https://h.example/#a", "https://me:secret@h.example/", "s3://bucket", "fhir.example.org/r4", ""]
        {
            let error = UrlRules::new(base, &[], false).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
