//! Verifies the assertion that authenticates a client (RFC 7523, section 3; SMART App Launch, "Asymmetric Authentication").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::{Client, ClientKeys, has_client_id_form};
use headrace_core::ports::{AccessStore, Clock};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::error_chain;
use headrace_core::vocab::ids::Caller;
use headrace_edge::jose::{Algorithm, Audience, CompactJws, KeySet, NumericDate, TokenFormatError, VerifyingKey, present};
use headrace_edge::jwks::{JwksCache, JwksError};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::TokenError;

/// The tolerated difference between the client's clock and ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The longest lifetime of an assertion.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// The longest `jti` and `kid`, in bytes. A UUID has 36, a thumbprint 43.
const MAX_ID_BYTES: usize = 256;

/// The claims of an assertion.
#[derive(Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "present")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
}

/// A verified assertion. Only its reuse is not yet checked.
pub(crate) struct VerifiedAssertion {
    /// The authenticated client.
    pub(crate) client: Client,
    jti: String,
    expires_at: Millis,
}

/// The verifier of client assertions.
pub(crate) struct AssertionVerifier<'a, J, C> {
    /// The registrations of clients.
    pub(crate) store: &'a J,
    /// The key sets of clients, by URL.
    pub(crate) client_keys: &'a JwksCache<C>,
    /// The current time.
    pub(crate) now: Millis,
    /// The required audience: the URL of this endpoint.
    pub(crate) token_url: &'a str,
}

impl<J: AccessStore, C: Clock> AssertionVerifier<'_, J, C> {
    /// Verifies an assertion. `client_id` is the parameter of the request, if present.
    ///
    /// Checks the contents before it reads the registration, so that a client learns its own mistakes and nothing about
    /// others.
    pub(crate) async fn verify(&self, assertion: &str, client_id: Option<&str>) -> Result<VerifiedAssertion, TokenError> {
        let token = CompactJws::parse(assertion)
            .map_err(|problem| TokenError::InvalidClient { description: describe_format_error(problem), reason: problem.to_string() })?;
        let algorithm = Algorithm::parse(&token.header.alg, &Algorithm::SMART);
        let algorithm = algorithm
            .ok_or_else(|| TokenError::invalid_client("the assertion's alg is neither RS384 nor ES384: sign it with one of them"))?;
        if token.header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(TokenError::invalid_client("the assertion's typ is not JWT"));
        }
        let kid = token.header.kid.as_deref().filter(|kid| (1..=MAX_ID_BYTES).contains(&kid.len()));
        let kid = kid.ok_or_else(|| {
            TokenError::invalid_client("the assertion's header has no kid of 1 to 256 bytes: name the key that signed it")
        })?;
        let claims: Claims = token.claims().map_err(|_| {
            TokenError::invalid_client(
                "the assertion's claims cannot be read: send each once and not null, iss, sub and jti as strings, exp as a number",
            )
        })?;
        let (id, jti, expires_at) = self.check_claims(claims, client_id)?;
        let client = self.store.client(&id).await?.ok_or_else(|| TokenError::unauthenticated("no such client"))?;
        if client.is_disabled {
            return Err(TokenError::unauthenticated("the client is disabled"));
        }
        let key = self.verifying_key(&client, token.header.jku.as_deref(), kid, algorithm).await?;
        if !token.is_signed_by(&key) {
            return Err(TokenError::unauthenticated("the signature is wrong"));
        }
        Ok(VerifiedAssertion { client, jti, expires_at })
    }

    /// Checks the claims. Returns the client id, the `jti` and the time of expiry.
    fn check_claims(&self, claims: Claims, client_id: Option<&str>) -> Result<(Caller, String, Millis), TokenError> {
        let id = claims.iss.filter(|issuer| claims.sub.as_ref() == Some(issuer) && has_client_id_form(issuer));
        let id =
            id.ok_or_else(|| TokenError::invalid_client("the assertion's iss and sub are not the same client_id: set both to yours"))?;
        if client_id.is_some_and(|client_id| client_id != id) {
            return Err(TokenError::invalid_client(
                "the parameter client_id differs from the assertion's iss: leave it out or set it to the same value",
            ));
        }
        if !claims.aud.is_some_and(|audience| audience.contains(self.token_url)) {
            return Err(TokenError::invalid_client(
                "the assertion's aud is not the URL of this token endpoint: take it from .well-known/smart-configuration",
            ));
        }
        let expires_at = claims
            .exp
            .ok_or_else(|| TokenError::invalid_client("the assertion has no exp: set it to at most five minutes from now"))?
            .to_millis();
        if self.now >= expires_at + CLOCK_SKEW {
            return Err(TokenError::invalid_client("the assertion has expired: make a fresh one for each request, and check the clock"));
        }
        if expires_at > self.now + MAX_LIFETIME + CLOCK_SKEW {
            return Err(TokenError::invalid_client(
                "the assertion's exp lies more than five minutes ahead: set it nearer, and check the clock",
            ));
        }
        let is_ahead = |time: Option<NumericDate>| time.is_some_and(|time| time.to_millis() > self.now + CLOCK_SKEW);
        if is_ahead(claims.nbf) || is_ahead(claims.iat) {
            return Err(TokenError::invalid_client("the assertion's nbf or iat lies ahead: check the clock"));
        }
        let jti = claims.jti.filter(|jti| (1..=MAX_ID_BYTES).contains(&jti.len()));
        let jti = jti.ok_or_else(|| TokenError::invalid_client("the assertion has no jti of 1 to 256 bytes: give each its own"))?;
        Ok((Caller(id), jti, expires_at))
    }

    /// Returns the client's key with this key id, from its registered keys or its registered URL. Rejects a `jku` that is not this URL.
    async fn verifying_key(&self, client: &Client, jku: Option<&str>, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, TokenError> {
        let registered = match &client.keys {
            ClientKeys::JwksUrl(url) => Some(url.as_str()),
            ClientKeys::Jwks(_) => None,
            ClientKeys::External => return Err(TokenError::unauthenticated("the client has an external identity and no keys here")),
        };
        // Only the registration decides where keys are fetched from.
        if jku.is_some() && jku != registered {
            return Err(TokenError::unauthenticated("jku is not the URL that is registered"));
        }
        match &client.keys {
            ClientKeys::JwksUrl(url) => self.client_keys.verifying_key(url, kid, algorithm).await.map_err(|error| match error {
                JwksError::Key(problem) => TokenError::unauthenticated(problem),
                JwksError::Fetch(problem) => TokenError::InvalidClient {
                    description: "the client's keys could not be fetched from the URL that is registered",
                    reason: error_chain(&problem),
                },
            }),
            ClientKeys::Jwks(text) => {
                KeySet::parse(text.as_bytes()).and_then(|set| set.verifying_key(kid, algorithm)).map_err(TokenError::unauthenticated)
            }
            ClientKeys::External => Err(TokenError::unauthenticated("the client has an external identity and no keys here")),
        }
    }
}

impl VerifiedAssertion {
    /// Marks the assertion as used. Fails if it was used before. Call it last, after all checks that can fail.
    pub(crate) async fn mark_used(&self, store: &impl AccessStore) -> Result<(), TokenError> {
        let mut digest = Sha256::new();
        // A client id contains no zero byte, so different pairs of id and jti never give the same text.
        digest.update(self.client.id.0.as_bytes());
        digest.update([0]);
        digest.update(self.jti.as_bytes());
        // Times in the table are whole seconds: one more rounds up.
        let until = self.expires_at + CLOCK_SKEW + Duration::from_secs(1);
        if store.remember_assertion(&URL_SAFE_NO_PAD.encode(digest.finalize()), until).await? {
            return Ok(());
        }
        Err(TokenError::invalid_client(
            "an assertion with this jti was used before: make a fresh one, with a jti of its own, for each request",
        ))
    }
}

/// Returns the text for a client whose assertion cannot be parsed (RFC 7523, section 3.2).
fn describe_format_error(problem: TokenFormatError) -> &'static str {
    match problem {
        TokenFormatError::TooLong | TokenFormatError::Malformed => {
            "client_assertion is not a signed JWT that can be parsed: three base64url parts with one JSON object each in the first two, \
             at most 8 KiB"
        }
        // An unsupported critical extension makes a signature invalid (RFC 7515, section 4.1.11).
        TokenFormatError::CriticalExtension => {
            "the assertion's header has crit, which names extensions that are not supported here: leave it out"
        }
    }
}
