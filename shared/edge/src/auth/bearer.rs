//! Bearer tokens in requests (RFC 6750): reads them, and describes why one is rejected.

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::Request;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::AUTHORIZATION;

use crate::jose::TokenFormatError;

/// Returns the token in the header `Authorization`. Tokens in URLs are not read: URLs end up in logs.
///
/// `None` if there is no token. Some clients without a token send `Bearer` and a space.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let (scheme, token) = value.split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && token.first().is_some_and(u8::is_ascii_whitespace);
    Some(token.trim_ascii()).filter(|token| is_bearer && !token.is_empty())
}

/// The issuer of the access tokens that a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenIssuer {
    /// The server itself.
    ThisServer,
    /// The operator's identity provider.
    IdentityProvider,
}

/// Creates the error for a request without a token. It tells where tokens come from, and the options of `headrace export`.
pub(super) fn missing_token(issuer: TokenIssuer) -> RequestError {
    unauthenticated(match issuer {
        TokenIssuer::ThisServer => {
            "the request carries no access token: get one at this server's token endpoint and send it as `Authorization: Bearer …`; \
             `headrace export` does so with --client-id and --client-key"
        }
        TokenIssuer::IdentityProvider => {
            "the request carries no access token: get one from the identity provider of this server and send it as \
             `Authorization: Bearer …`; `headrace export` does so with --client-id, --client-key and --token-url, or with --token"
        }
    })
}

/// The reason why a token is invalid, for the log. The client learns less. Neither contains the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidToken {
    /// The token cannot be parsed.
    #[error("it cannot be parsed: {0}")]
    Malformed(#[from] TokenFormatError),
    /// The token is not UTF-8 text, or the request has several `Authorization` headers.
    #[error("it is not text, or the request has several")]
    NotSingleText,
    /// The token has a type or an algorithm that access tokens do not have.
    #[error("its type or algorithm is not that of an access token")]
    UnsupportedType,
    /// The signing key is unknown.
    #[error("its key is unknown")]
    UnknownKey,
    /// The signature does not match.
    #[error("its signature is wrong")]
    WrongSignature,
    /// The issuer or the audience is not the expected one.
    #[error("its iss or aud is not the expected one")]
    WrongIssuerOrAudience,
    /// The token has expired or is not yet valid.
    #[error("it has expired or is not yet valid")]
    NotValidNow,
    /// The token names no valid subject.
    #[error("it names no valid subject")]
    NoSubject,
    /// The client is not registered, was registered again, or has got other keys.
    #[error("its client is not registered any more as it was when the token was issued")]
    EndedRegistration,
}

impl InvalidToken {
    /// Returns the error for the client, with status 401. It tells only whether the token has expired.
    pub(super) fn request_error(&self) -> RequestError {
        match self {
            Self::NotValidNow => unauthenticated("the access token has expired: get a fresh one at the token endpoint"),
            Self::Malformed(_)
            | Self::NotSingleText
            | Self::UnsupportedType
            | Self::UnknownKey
            | Self::WrongSignature
            | Self::WrongIssuerOrAudience
            | Self::NoSubject
            | Self::EndedRegistration => {
                unauthenticated("the access token is not valid here: get a fresh one at this server's token endpoint")
            }
        }
    }
}

/// Creates the error for a request without valid credentials, with status 401.
fn unauthenticated(text: &str) -> RequestError {
    RequestError::new(401, IssueCode::Login, "Authorization", text)
}

/// Returns the value of `WWW-Authenticate` for a rejection with this status. `None` for statuses other than 401 and 403.
pub(super) fn challenge(request: &Request, status: u16) -> Option<&'static str> {
    match status {
        401 if bearer_token(request.headers()).is_some() => Some("Bearer realm=\"headrace\", error=\"invalid_token\""),
        401 => Some("Bearer realm=\"headrace\""),
        403 => Some("Bearer realm=\"headrace\", error=\"insufficient_scope\""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    // Holds: B14
    #[test]
    fn a_token_is_read_from_the_header_and_an_empty_one_counts_as_missing() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER\tabc", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("abc", None),
            ("", None),
        ] {
            let headers: HeaderMap = [(AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(bearer_token(&headers), expected.map(str::as_bytes), "{value}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }
}
