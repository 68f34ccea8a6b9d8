//! Requests that are signed with AWS credentials (Signature Version 4). This crate does not know the algorithm: the signer has it.

use std::sync::Arc;

use headrace_core::ports::{SignatureFuture, UnsignedRequest};
use headrace_core::vocab::error::BoxError;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// A signer of requests. Clones share its credentials.
#[derive(Clone)]
pub struct RequestSigner(Arc<dyn Fn(UnsignedRequest) -> SignatureFuture + Send + Sync>);

impl RequestSigner {
    /// Creates a signer from a function that returns the header fields to add.
    pub fn new(sign: impl Fn(UnsignedRequest) -> SignatureFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }

    /// Returns the header fields with the signature of a request. They do not appear in logs.
    pub(crate) async fn sign(&self, request: UnsignedRequest) -> Result<HeaderMap, BoxError> {
        let mut headers = HeaderMap::new();
        for (name, value) in (self.0)(request).await? {
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name)?, value);
        }
        Ok(headers)
    }
}

/// Returns the URL that is sent and signed. AWS signs a query after it has decoded it, and servers disagree about signs that a token of a
/// page has unencoded, so these are encoded.
pub(crate) fn signable_url(url: &Url) -> Url {
    let Some(query) = url.query() else { return url.clone() };
    let encode = |text: &str| text.replace('=', "%3D").replace('+', "%2B");
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", encode(name), encode(value)),
        None => encode(pair),
    });
    let encoded = pairs.collect::<Vec<_>>().join("&");
    let mut url = url.clone();
    url.set_query(Some(&encoded));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_token_that_are_not_encoded_are_encoded_once() {
        for (query, expected) in [
            ("page=AA+B/w==", "page=AA%2BB/w%3D%3D"),
            ("_lastUpdated=ge2026-01-01T00:00:00Z&page=a%3D%3D", "_lastUpdated=ge2026-01-01T00:00:00Z&page=a%3D%3D"),
            ("_summary=count&flag", "_summary=count&flag"),
        ] {
            let url = Url::parse(&format!("https://fhir.example.org/r4/Patient?{query}")).unwrap();
            let signed = signable_url(&url);
            assert_eq!(signed.query(), Some(expected));
            assert_eq!(signable_url(&signed), signed);
        }
        let without = Url::parse("https://fhir.example.org/r4/metadata").unwrap();
        assert_eq!(signable_url(&without), without);
    }
}
