//! The rules for URLs of key sets. A URL that a client names must not lead into the operator's network.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::is_public;

/// The trust in the author of a URL. It decides where the URL may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlPolicy {
    /// Clients of a deployment: public addresses, by https.
    Clients,
    /// Clients of a local server: public addresses by https, and loopback addresses also by http.
    LocalClients,
    /// The operator, in a setting: any URL.
    Operator,
}

/// The reason why a URL of a key set is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwksUrl {
    /// The URL is not absolute.
    #[error("it is not an absolute URL")]
    NotAbsolute,
    /// The URL contains a user name or a password.
    #[error("it contains user information; public keys need none, remove it")]
    HasUser,
    /// The URL has a fragment.
    #[error("it has a fragment (#…), which is never sent; remove it")]
    HasFragment,
    /// The URL has no host.
    #[error("it has no host")]
    NoHost,
    /// The host is the server itself.
    #[error("it points to the server itself")]
    PointsToServer,
    /// The host is an IP address.
    #[error("its host is an IP address: use a host name, which a certificate can verify")]
    IsIpAddress,
    /// The scheme is not https.
    #[error("it must begin with https://, so that nobody on the network can replace the keys")]
    NotHttps,
    /// The host is an address that is not public.
    #[error("its address is not public")]
    NotPublic,
}

impl UrlPolicy {
    /// Parses a URL and checks that it may be fetched.
    ///
    /// A host name is not resolved here: its addresses are checked when the connection is made.
    pub fn parse_url(self, text: &str) -> Result<Url, InvalidJwksUrl> {
        let url = Url::parse(text).map_err(|_| InvalidJwksUrl::NotAbsolute)?;
        if self == Self::Operator {
            return Ok(url);
        }
        let (is_allowed, is_local) = match url.host() {
            Some(Host::Domain(name)) => (true, self.allows_loopback(name)),
            Some(Host::Ipv4(address)) => (self.allows_address(address.into()), address.is_loopback()),
            Some(Host::Ipv6(address)) => (self.allows_address(address.into()), address.is_loopback()),
            None => (false, false),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidJwksUrl::HasUser);
        }
        let allows_http = is_local && self == Self::LocalClients;
        if !(url.scheme() == "https" || url.scheme() == "http" && allows_http) {
            return Err(InvalidJwksUrl::NotHttps);
        }
        if is_allowed { Ok(url) } else { Err(InvalidJwksUrl::NotPublic) }
    }

    /// Checks a URL with which a client is registered: more strictly than a fetch, so that mistakes show at once.
    ///
    /// The addresses of a host name are checked at every fetch, not here.
    pub fn check_registered_url(self, text: &str) -> Result<(), InvalidJwksUrl> {
        let url = Url::parse(text).map_err(|_| InvalidJwksUrl::NotAbsolute)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidJwksUrl::HasUser);
        }
        if url.fragment().is_some() {
            return Err(InvalidJwksUrl::HasFragment);
        }
        let (is_loopback, is_address) = match url.host().ok_or(InvalidJwksUrl::NoHost)? {
            Host::Domain(name) => (name == "localhost", false),
            Host::Ipv4(address) => (address.is_loopback(), true),
            Host::Ipv6(address) => (address.is_loopback(), true),
        };
        if is_loopback && self != Self::LocalClients {
            return Err(InvalidJwksUrl::PointsToServer);
        }
        if is_address && !is_loopback && url.scheme() == "https" {
            return Err(InvalidJwksUrl::IsIpAddress);
        }
        self.parse_url(text).map(drop)
    }

    /// Returns true if a host of this name may resolve to a loopback address.
    pub(super) fn allows_loopback(self, host: &str) -> bool {
        self == Self::LocalClients && host == "localhost"
    }

    /// Returns true if the policy allows connections to the address: to public ones, and for local clients also to loopback ones.
    fn allows_address(self, address: IpAddr) -> bool {
        is_public(address) || self == Self::LocalClients && address.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Holds: SEC-A8
    #[test]
    fn a_clients_url_leads_to_the_public_internet_by_https() {
        let allowed = |url: &str, policy: UrlPolicy| policy.parse_url(url);
        for url in ["https://ehr.example/jwks", "https://ehr.example:8443/a/jwks?x=1", "https://8.8.8.8/", "https://[2606:4700::1111]/"] {
            for policy in [UrlPolicy::Clients, UrlPolicy::LocalClients] {
                assert!(allowed(url, policy).is_ok(), "{url}");
            }
        }
        for url in ["http://127.0.0.1:81/jwks", "http://[::1]/", "http://localhost:8080/jwks", "https://127.0.0.1/"] {
            assert!(allowed(url, UrlPolicy::LocalClients).is_ok(), "{url}");
            assert!(allowed(url, UrlPolicy::Clients).is_err(), "{url}");
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
            for policy in [UrlPolicy::Clients, UrlPolicy::LocalClients] {
                assert!(allowed(url, policy).is_err(), "{url}");
            }
        }
    }
}
