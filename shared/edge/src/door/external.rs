//! Access tokens of the operator's identity provider.

use headrace_core::access::{Scopes, check_client_id};
use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

use super::bearer::Invalid;
use crate::config::ExternalTerms;
use crate::jose::{Algorithm, Audience, Compact, NumericDate};
use crate::jwks::{JwksError, JwksSource, Trust};

/// How far clocks may be apart: the provider's is not ours.
const SKEW: Duration = Duration::from_secs(60);

/// The provider's tokens, as they are checked.
pub(super) struct External<C> {
    terms: ExternalTerms,
    keys: JwksSource<C>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: Option<String>,
    aud: Audience,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Why a token could not be judged.
pub(super) enum Unjudged {
    /// It is not valid.
    Invalid(Invalid),
    /// The provider's keys cannot be had.
    NoKeys(JwksError),
}

impl<C: Clock> External<C> {
    pub(super) fn new(terms: ExternalTerms, clock: C) -> Self {
        Self { terms, keys: JwksSource::new(Trust::Operator, clock) }
    }

    /// Whose token this is and what it lets them read.
    pub(super) async fn check(&self, token: &str, now: Millis) -> Result<(Caller, Scopes), Unjudged> {
        let invalid = Unjudged::Invalid;
        let token = Compact::parse(token).map_err(|error| invalid(error.into()))?;
        let algorithm = Algorithm::named(&token.header.alg, &Algorithm::ALL).ok_or(invalid(Invalid::Kind))?;
        let kid = token.header.kid.as_deref().ok_or(invalid(Invalid::Key))?;
        let key = match self.keys.key(&self.terms.jwks_url, kid, algorithm).await {
            Ok(key) => key,
            Err(JwksError::Key(problem)) => {
                tracing::info!(%problem, "no key of the identity provider fits a token");
                return Err(invalid(Invalid::Key));
            }
            Err(error @ JwksError::Fetch(_)) => return Err(Unjudged::NoKeys(error)),
        };
        if !token.is_signed_by(&key) {
            return Err(invalid(Invalid::Signature));
        }
        let claims = token.claims::<Claims>().map_err(|error| invalid(error.into()))?;
        self.believe(claims, now).map_err(invalid)
    }

    fn believe(&self, claims: Claims, now: Millis) -> Result<(Caller, Scopes), Invalid> {
        if claims.iss != self.terms.issuer || !claims.aud.has(&self.terms.audience) {
            return Err(Invalid::Stranger);
        }
        let is_begun = claims.nbf.is_none_or(|begin| begin.millis() <= now + SKEW);
        if now >= claims.exp.millis() + SKEW || !is_begun {
            return Err(Invalid::Time);
        }
        let subject = claims.sub.as_deref().filter(|subject| !subject.is_empty()).ok_or(Invalid::Nobody)?;
        // Two providers may both know an `admin`: the name is both together.
        let caller = format!("{}#{subject}", claims.iss);
        check_client_id(&caller).map_err(|_| Invalid::Nobody)?;
        let scopes = scope_text(claims.others.get(&self.terms.scope_claim));
        Ok((Caller(caller), Scopes::of_text(&scopes, self.terms.version).0))
    }
}

/// Providers write scopes as a text with blanks, or as a list.
fn scope_text(claim: Option<&Value>) -> String {
    match claim {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}
