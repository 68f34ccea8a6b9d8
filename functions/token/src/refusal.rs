//! What a client is told that gets no token (RFC 6749, section 5.2).

use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::form::BadForm;
use headrace_edge::reply::Reply;
use lambda_http::http::header::{PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

/// Why there is no token.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The request is no token request.
    Form(BadForm),
    /// A parameter is missing or wrong.
    Request(&'static str),
    /// Another grant than client credentials.
    GrantType,
    /// Nothing of what was asked for may be granted.
    Scope(&'static str),
    /// The client has not shown who it is: what it is told, and what the log is.
    Client {
        /// For the client.
        said: &'static str,
        /// For the log: which check failed.
        reason: String,
    },
    /// A store failed, or KMS.
    Unavailable(StoreError),
}

/// One text for a client that is not known and for one that did not sign: nobody can try names out.
pub(crate) const NOT_SHOWN: &str = "the client is not registered here or is shut out, or the assertion is not signed with one of its keys: \
                                    check iss, sub, kid, alg and jku, and ask the operator of this server which keys are registered";

impl Refused {
    /// A client that has not shown who it is, told what to do.
    pub(crate) fn client(said: &'static str) -> Self {
        Self::Client { said, reason: said.to_owned() }
    }

    /// A client that has not shown who it is, told no more than that.
    pub(crate) fn not_shown(reason: impl ToString) -> Self {
        Self::Client { said: NOT_SHOWN, reason: reason.to_string() }
    }

    /// As the standard names it.
    pub(crate) fn error(&self) -> &'static str {
        match self {
            Self::Form(_) | Self::Request(_) => "invalid_request",
            Self::GrantType => "unsupported_grant_type",
            Self::Scope(_) => "invalid_scope",
            Self::Client { .. } => "invalid_client",
            Self::Unavailable(_) => "temporarily_unavailable",
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Form(_) | Self::Request(_) | Self::GrantType | Self::Scope(_) => 400,
            Self::Client { .. } => 401,
            Self::Unavailable(_) => 503,
        }
    }

    /// As auditors read it.
    pub(crate) fn issue(&self) -> IssueCode {
        match self {
            Self::Form(_) | Self::Request(_) => IssueCode::Invalid,
            Self::GrantType => IssueCode::NotSupported,
            Self::Scope(_) => IssueCode::Forbidden,
            Self::Client { .. } => IssueCode::Login,
            Self::Unavailable(_) => IssueCode::Transient,
        }
    }

    fn description(&self) -> String {
        match self {
            Self::Form(bad) => bad.to_string(),
            Self::Request(text) | Self::Scope(text) => (*text).to_owned(),
            Self::GrantType => "this server gives tokens for grant_type=client_credentials alone".to_owned(),
            Self::Client { said, .. } => (*said).to_owned(),
            Self::Unavailable(_) => "a store or the signing key could not be reached: try again".to_owned(),
        }
    }

    /// As it is answered.
    pub(crate) fn reply(&self) -> Reply {
        let body = json!({ "error": self.error(), "error_description": self.description() });
        let reply = Reply::json(self.status(), "application/json", body.to_string()).with(PRAGMA, "no-cache");
        match self {
            Self::Form(_) | Self::Request(_) | Self::GrantType | Self::Scope(_) => reply,
            // A 401 has a challenge (RFC 9110, section 15.5.2).
            Self::Client { .. } => reply.with(WWW_AUTHENTICATE, "Bearer realm=\"headrace\""),
            Self::Unavailable(_) => reply.with(RETRY_AFTER, "5"),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}
