//! The access token of a request (RFC 6750).

use headrace_core::request::Refusal;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::Request;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::AUTHORIZATION;

use crate::jose::BadToken;

/// The token that a request was sent with: in its header, and nowhere else, for URLs end up in logs. `None` if there is
/// none; some clients send `Bearer` and a blank then.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let (scheme, token) = value.split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && token.first().is_some_and(u8::is_ascii_whitespace);
    Some(token.trim_ascii()).filter(|token| is_bearer && !token.is_empty())
}

/// What a request says of itself that comes without a token.
pub(super) fn required() -> Refusal {
    let text = "the request carries no access token: get one at this server's token endpoint and send it as `Authorization: Bearer …`";
    login(text)
}

/// Why a token does not count. The client is told little, the log more; neither is told the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
    /// It is none.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] BadToken),
    /// It is not text.
    #[error("it is not ASCII, or there are several")]
    NotOne,
    /// Not an access token, or signed in a way that is not taken.
    #[error("it is of another type or algorithm than access tokens are here")]
    Kind,
    /// Signed with a key that is not known.
    #[error("its key is not known here")]
    Key,
    /// Signed by nobody.
    #[error("its signature is wrong")]
    Signature,
    /// By somebody else, or for somebody else.
    #[error("it is by or for somebody else: its iss or aud is not what is expected here")]
    Stranger,
    /// Over, or not yet begun.
    #[error("it has expired, or its time has not begun")]
    Time,
    /// Of nobody.
    #[error("it does not say whose it is")]
    Nobody,
    /// Of a client that is not registered, or was.
    #[error("its client is not registered")]
    Unregistered,
}

impl Invalid {
    /// As the client is told it.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Time => login("the access token has expired: get a fresh one at the token endpoint"),
            Self::Unreadable(_)
            | Self::NotOne
            | Self::Kind
            | Self::Key
            | Self::Signature
            | Self::Stranger
            | Self::Nobody
            | Self::Unregistered => login("the access token is not valid here: get a fresh one at this server's token endpoint"),
        }
    }
}

fn login(text: &str) -> Refusal {
    Refusal::of(401, IssueCode::Login, "Authorization", text)
}

/// The challenge that goes with a refusal of this status; `None` if none belongs to it.
pub(super) fn challenge(request: &Request, status: u16) -> Option<&'static str> {
    match status {
        401 if bearer(request.headers()).is_some() => Some("Bearer realm=\"headrace\", error=\"invalid_token\""),
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
    fn a_token_is_taken_from_the_header_and_an_empty_one_is_none() {
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
            assert_eq!(bearer(&headers), expected.map(str::as_bytes), "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
