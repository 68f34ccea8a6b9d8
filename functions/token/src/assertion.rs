//! The assertion by which a client shows who it is (RFC 7523, section 3; SMART App Launch, "Asymmetric Authentication").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::{Client, ClientKeys, check_client_id};
use headrace_core::ports::{AccessStore, Clock};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_edge::jose::{Algorithm, Audience, BadToken, Compact, KeySet, NumericDate, VerifyingKey};
use headrace_edge::jwks::{JwksError, JwksSource};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::refusal::Refused;

/// How far the client's clock may be from ours.
pub(crate) const SKEW: Duration = Duration::from_secs(60);

/// How far ahead an assertion may end: five minutes.
const LONGEST: Duration = Duration::from_secs(300);

/// The longest `jti` and `kid`, in bytes. A UUID has 36, a thumbprint 43.
const NAME_BYTES: usize = 256;

/// What an assertion says.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    jti: Option<String>,
}

/// An assertion that was checked but for one thing: whether it was shown before.
pub(crate) struct Shown {
    /// Whose it is.
    pub(crate) client: Client,
    jti: String,
    ends: Millis,
}

/// What an assertion is checked against.
pub(crate) struct Checks<'a, J, C> {
    /// Registrations.
    pub(crate) store: &'a J,
    /// Clients' keys by URL.
    pub(crate) keys: &'a JwksSource<C>,
    /// The time now.
    pub(crate) now: Millis,
    /// Whom it must be for: this endpoint.
    pub(crate) token_url: &'a str,
}

impl<J: AccessStore, C: Clock> Checks<'_, J, C> {
    /// Whose assertion it is. `claimed` is the client that the request names beside it, if it does.
    ///
    /// What the assertion says about itself comes first: a client's mistakes are told to it before anything is looked up.
    pub(crate) async fn check(&self, assertion: &str, claimed: Option<&str>) -> Result<Shown, Refused> {
        let token = Compact::parse(assertion).map_err(|bad| Refused::Client { said: unreadable(bad), reason: bad.to_string() })?;
        let algorithm = Algorithm::named(&token.header.alg, &Algorithm::SMART);
        let algorithm =
            algorithm.ok_or_else(|| Refused::client("the assertion's alg is neither RS384 nor ES384: sign it with one of them"))?;
        if token.header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(Refused::client("the assertion's typ is not JWT"));
        }
        let kid = token.header.kid.as_deref().filter(|kid| (1..=NAME_BYTES).contains(&kid.len()));
        let kid = kid.ok_or_else(|| Refused::client("the assertion's header has no kid of 1 to 256 bytes: name the key that signed it"))?;
        let claims: Claims = token
            .claims()
            .map_err(|_| Refused::client("the assertion's claims cannot be read: each once, iss, sub and jti texts, exp a number"))?;
        let (id, jti, ends) = self.plausible(claims, claimed)?;
        let client = self.store.client(&id).await?.ok_or_else(|| Refused::not_shown("no such client"))?;
        if client.is_disabled {
            return Err(Refused::not_shown("the client is shut out"));
        }
        let key = self.key(&client, token.header.jku.as_deref(), kid, algorithm).await?;
        if !token.is_signed_by(&key) {
            return Err(Refused::not_shown("the signature is wrong"));
        }
        Ok(Shown { client, jti, ends })
    }

    /// Whether the claims can be those of an assertion for this endpoint at this time: whose it is then, its name, its end.
    fn plausible(&self, claims: Claims, claimed: Option<&str>) -> Result<(Caller, String, Millis), Refused> {
        let id = claims.iss.filter(|issuer| claims.sub.as_ref() == Some(issuer) && check_client_id(issuer).is_ok());
        let id = id.ok_or_else(|| Refused::client("the assertion's iss and sub are not the same client_id: set both to yours"))?;
        if claimed.is_some_and(|claimed| claimed != id) {
            return Err(Refused::client(
                "the parameter client_id is another one than the assertion's iss: leave it out or set it to the same",
            ));
        }
        if !claims.aud.is_some_and(|audience| audience.has(self.token_url)) {
            return Err(Refused::client(
                "the assertion's aud is not the URL of this token endpoint: take it from .well-known/smart-configuration",
            ));
        }
        let ends = claims.exp.ok_or_else(|| Refused::client("the assertion has no exp: set it to at most five minutes from now"))?.millis();
        if self.now >= ends + SKEW {
            return Err(Refused::client("the assertion has expired: make a fresh one for each request, and check the clock"));
        }
        if ends > self.now + LONGEST + SKEW {
            return Err(Refused::client("the assertion's exp lies more than five minutes ahead: set it nearer, and check the clock"));
        }
        let is_ahead = |moment: Option<NumericDate>| moment.is_some_and(|moment| moment.millis() > self.now + SKEW);
        if is_ahead(claims.nbf) || is_ahead(claims.iat) {
            return Err(Refused::client("the assertion's nbf or iat lies ahead: check the clock"));
        }
        let jti = claims.jti.filter(|jti| (1..=NAME_BYTES).contains(&jti.len()));
        let jti = jti.ok_or_else(|| Refused::client("the assertion has no jti of 1 to 256 bytes: give each its own"))?;
        Ok((Caller(id), jti, ends))
    }

    /// The client's key of this name.
    async fn key(&self, client: &Client, jku: Option<&str>, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, Refused> {
        let registered = match &client.keys {
            ClientKeys::JwksUrl(url) => Some(url.as_str()),
            ClientKeys::Jwks(_) => None,
            ClientKeys::Elsewhere => return Err(Refused::not_shown("the client is known elsewhere and has no keys here")),
        };
        // Nobody chooses where we look for keys but whoever registered the client.
        if jku.is_some() && jku != registered {
            return Err(Refused::not_shown("jku is not the URL that is registered"));
        }
        match &client.keys {
            ClientKeys::JwksUrl(url) => self.keys.key(url, kid, algorithm).await.map_err(|error| match error {
                JwksError::Key(problem) => Refused::not_shown(problem),
                JwksError::Fetch(problem) => Refused::Client {
                    said: "the client's keys could not be fetched from the URL that is registered",
                    reason: chain(&problem),
                },
            }),
            ClientKeys::Jwks(text) => KeySet::parse(text.as_bytes()).and_then(|set| set.key(kid, algorithm)).map_err(Refused::not_shown),
            ClientKeys::Elsewhere => Err(Refused::not_shown("the client is known elsewhere and has no keys here")),
        }
    }
}

impl Shown {
    /// Remembers that it was shown. One that was before counts no more: the last check, after which nothing is refused.
    pub(crate) async fn remember(&self, store: &impl AccessStore) -> Result<(), Refused> {
        let mut digest = Sha256::new();
        // A client's name has no zero byte: no two pairs are the same text.
        digest.update(self.client.id.0.as_bytes());
        digest.update([0]);
        digest.update(self.jti.as_bytes());
        // Times in the table are whole seconds.
        let until = self.ends + SKEW + Duration::from_secs(1);
        if store.remember_assertion(&URL_SAFE_NO_PAD.encode(digest.finalize()), until).await? {
            return Ok(());
        }
        Err(Refused::client("an assertion with this jti was used before: make a fresh one, with a jti of its own, for each request"))
    }
}

/// What a client is told whose assertion is not even looked at: it has not shown who it is (RFC 7523, section 3.2).
fn unreadable(bad: BadToken) -> &'static str {
    match bad {
        BadToken::Long | BadToken::Malformed => {
            "client_assertion is not a signed JWT that can be read: three base64url pieces with one JSON object each in the first two, \
             at most 8 KiB"
        }
        // What must be understood and is not makes a signature invalid (RFC 7515, section 4.1.11).
        BadToken::Critical => "the assertion's header has crit, which names extensions that are not supported here: leave it out",
    }
}

/// An error and its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
