//! The error responses of the token endpoint (RFC 6749, section 5.2).

use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::form::FormError;
use headrace_edge::reply::Reply;
use lambda_http::http::header::{PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

/// The reason why a token request fails.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The body is not a valid form.
    InvalidForm(FormError),
    /// A parameter is missing or wrong.
    InvalidRequest(&'static str),
    /// The grant type is not client credentials.
    UnsupportedGrantType,
    /// The requested scopes cannot be granted, or are too many for one token.
    InvalidScope(&'static str),
    /// The client is not authenticated.
    InvalidClient {
        /// The text for the client.
        description: &'static str,
        /// The reason for the log.
        reason: String,
    },
    /// A store or KMS failed.
    Unavailable(StoreError),
}

/// The same text for an unknown client and for a wrong signature, so that nobody can find out which clients exist.
const UNAUTHENTICATED: &str = "the client is not registered here or is disabled, or the assertion is not signed with one of its keys: \
                               check iss, sub, kid, alg and jku, and ask the operator of this server which keys are registered";

impl TokenError {
    /// Creates the error for an assertion whose mistake the client may learn.
    pub(crate) fn invalid_client(description: &'static str) -> Self {
        Self::InvalidClient { description, reason: description.to_owned() }
    }

    /// Creates the error for a client that is not authenticated. The reason is only logged.
    pub(crate) fn unauthenticated(reason: impl ToString) -> Self {
        Self::InvalidClient { description: UNAUTHENTICATED, reason: reason.to_string() }
    }

    /// Returns the error code of OAuth 2.0 (RFC 6749, section 5.2).
    pub(crate) fn oauth_code(&self) -> &'static str {
        match self {
            Self::InvalidForm(_) | Self::InvalidRequest(_) => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidClient { .. } => "invalid_client",
            Self::Unavailable(_) => "temporarily_unavailable",
        }
    }

    /// Returns the HTTP status of the response.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::InvalidForm(_) | Self::InvalidRequest(_) | Self::UnsupportedGrantType | Self::InvalidScope(_) => 400,
            Self::InvalidClient { .. } => 401,
            Self::Unavailable(_) => 503,
        }
    }

    /// Returns the FHIR issue code for the audit record.
    pub(crate) fn issue_code(&self) -> IssueCode {
        match self {
            Self::InvalidForm(_) | Self::InvalidRequest(_) => IssueCode::Invalid,
            Self::UnsupportedGrantType => IssueCode::NotSupported,
            Self::InvalidScope(_) => IssueCode::Forbidden,
            Self::InvalidClient { .. } => IssueCode::Login,
            Self::Unavailable(_) => IssueCode::Transient,
        }
    }

    /// Returns the text for the client, the `error_description`.
    fn description(&self) -> String {
        match self {
            Self::InvalidForm(problem) => problem.to_string(),
            Self::InvalidRequest(text) | Self::InvalidScope(text) => (*text).to_owned(),
            Self::UnsupportedGrantType => "this server issues tokens only for grant_type=client_credentials".to_owned(),
            Self::InvalidClient { description, .. } => (*description).to_owned(),
            Self::Unavailable(_) => "a store or the signing key could not be reached: try again".to_owned(),
        }
    }

    /// Creates the error response in the JSON format of OAuth 2.0.
    pub(crate) fn reply(&self) -> Reply {
        let body = json!({ "error": self.oauth_code(), "error_description": self.description() });
        let reply = Reply::json(self.status(), "application/json", body.to_string()).with_header(PRAGMA, "no-cache");
        match self {
            Self::InvalidForm(_) | Self::InvalidRequest(_) | Self::UnsupportedGrantType | Self::InvalidScope(_) => reply,
            // A response with status 401 needs a challenge (RFC 9110, section 15.5.2).
            Self::InvalidClient { .. } => reply.with_header(WWW_AUTHENTICATE, "Bearer realm=\"headrace\""),
            Self::Unavailable(_) => reply.with_header(RETRY_AFTER, "5"),
        }
    }
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}
