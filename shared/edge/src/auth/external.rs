//! Access tokens of the operator's identity provider.

use std::time::Duration;

use headrace_core::access::{Scopes, check_client_id};
use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::bearer::InvalidToken;
use crate::config::IdentityProviderSettings;
use crate::jose::{Algorithm, Audience, CompactJws, NumericDate, present};
use crate::jwks::{JwksCache, JwksError, UrlPolicy};

/// The tolerated difference between the provider's clock and ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The verifier of tokens of the identity provider.
pub(super) struct ExternalVerifier<C> {
    settings: IdentityProviderSettings,
    keys: JwksCache<C>,
}

/// The claims of a token that are checked or used.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default, deserialize_with = "present")]
    sub: Option<String>,
    aud: Audience,
    exp: NumericDate,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<NumericDate>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The reason why a token was not accepted.
pub(super) enum ExternalTokenError {
    /// The token is invalid.
    Invalid(InvalidToken),
    /// The provider's keys cannot be fetched, so the token's validity is unknown.
    KeysUnavailable(JwksError),
}

impl<C: Clock> ExternalVerifier<C> {
    /// Creates a verifier that fetches the identity provider's keys when it needs them.
    pub(super) fn new(settings: IdentityProviderSettings, clock: C) -> Self {
        Self { settings, keys: JwksCache::new(UrlPolicy::Operator, clock) }
    }

    /// Verifies a token. Returns its subject and scopes.
    pub(super) async fn verify(&self, token: &str, now: Millis) -> Result<(Caller, Scopes), ExternalTokenError> {
        let invalid = ExternalTokenError::Invalid;
        let token = CompactJws::parse(token).map_err(|error| invalid(error.into()))?;
        let algorithm = Algorithm::parse(&token.header.alg, &Algorithm::ALL).ok_or(invalid(InvalidToken::UnsupportedType))?;
        let kid = token.header.kid.as_deref().ok_or(invalid(InvalidToken::UnknownKey))?;
        let key = match self.keys.verifying_key(&self.settings.jwks_url, kid, algorithm).await {
            Ok(key) => key,
            Err(JwksError::Key(problem)) => {
                tracing::info!(%problem, "the identity provider has no key for a token");
                return Err(invalid(InvalidToken::UnknownKey));
            }
            Err(error @ JwksError::Fetch(_)) => return Err(ExternalTokenError::KeysUnavailable(error)),
        };
        if !token.is_signed_by(&key) {
            return Err(invalid(InvalidToken::WrongSignature));
        }
        let claims = token.claims::<Claims>().map_err(|error| invalid(error.into()))?;
        self.check_claims(claims, now).map_err(invalid)
    }

    /// Checks the claims of a token whose signature is valid. Returns its subject and scopes.
    fn check_claims(&self, claims: Claims, now: Millis) -> Result<(Caller, Scopes), InvalidToken> {
        if claims.iss != self.settings.issuer || !claims.aud.contains(&self.settings.audience) {
            return Err(InvalidToken::WrongIssuerOrAudience);
        }
        let has_begun = claims.nbf.is_none_or(|begin| begin.to_millis() <= now + CLOCK_SKEW);
        if now >= claims.exp.to_millis() + CLOCK_SKEW || !has_begun {
            return Err(InvalidToken::NotValidNow);
        }
        let subject = claims.sub.as_deref().filter(|subject| !subject.is_empty()).ok_or(InvalidToken::NoSubject)?;
        // A subject is unique only within its issuer: two providers may both have an `admin`.
        let caller = format!("{}#{subject}", claims.iss);
        check_client_id(&caller).map_err(|_| InvalidToken::NoSubject)?;
        let scopes = scope_text(claims.others.get(&self.settings.scope_claim));
        Ok((Caller(caller), Scopes::parse(&scopes, self.settings.version).0))
    }
}

/// Returns the scopes of a claim as space-separated text. Providers write a text or a list.
fn scope_text(claim: Option<&Value>) -> String {
    match claim {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}
