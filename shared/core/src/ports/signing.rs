//! Requests to a FHIR server that are signed with AWS credentials: their client does not know how, and their signer sends nothing.

use std::pin::Pin;

use crate::vocab::clock::Millis;
use crate::vocab::error::BoxError;

/// A request without a body to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedRequest {
    /// The method.
    pub method: String,
    /// The URL, as it is sent.
    pub url: String,
    /// The time of the request.
    pub at: Millis,
    /// True if the credentials of the request before were rejected: they may have ended.
    pub renews_credentials: bool,
}

/// The header fields of a signature, or the reason why there are none.
pub type SignatureFuture = Pin<Box<dyn Future<Output = Result<Vec<(String, String)>, BoxError>> + Send>>;
