//! Access tokens: short-lived, and signed with a key that was made known first.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::TokenKey;
use headrace_core::ports::{AccessStore, TokenSigner};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_edge::door::{ACCESS_TOKEN_TYPE, Claims};
use headrace_edge::jose::{TOKEN_LIMIT_BYTES, key_id, pem_of};
use headrace_edge::system::random_name;
use serde_json::json;

/// How long a token lives: what SMART recommends at most.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// How long a key is believed after it was last made known. Processes that sign make it known again long before.
const KEY_LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// How often a process makes its key known again.
const MADE_KNOWN: Duration = Duration::from_secs(3600);

/// Signs tokens, for the life of the process.
pub(crate) struct Issuer<S> {
    signer: S,
    made_known: Mutex<Option<(TokenKey, Millis)>>,
}

/// Whose token, what for, by whom.
pub(crate) struct Grant<'a> {
    /// The client.
    pub(crate) client: &'a Caller,
    /// What may be read.
    pub(crate) scope: &'a str,
    /// The FHIR base: the token is by it and for it.
    pub(crate) base: &'a str,
}

impl<S: TokenSigner> Issuer<S> {
    pub(crate) fn new(signer: S) -> Self {
        Self { signer, made_known: Mutex::default() }
    }

    /// A token; `None` if it would be too long to be sent in a header.
    pub(crate) async fn token(&self, store: &impl AccessStore, grant: &Grant<'_>, now: Millis) -> Result<Option<String>, StoreError> {
        let key = self.known_key(store, now).await?;
        let seconds = now.0 / 1_000;
        let claims = Claims {
            iss: grant.base.to_owned(),
            sub: grant.client.0.clone(),
            client_id: grant.client.0.clone(),
            aud: grant.base.to_owned(),
            scope: grant.scope.to_owned(),
            iat: seconds,
            exp: seconds + LIFETIME.as_secs(),
            jti: random_name()?,
        };
        let header = json!({ "alg": key.alg, "kid": key.kid, "typ": ACCESS_TOKEN_TYPE });
        let unreadable = |error: serde_json::Error| StoreError::Unreadable { what: "the token", detail: error.to_string() };
        let claims = serde_json::to_vec(&claims).map_err(unreadable)?;
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(message.as_bytes()).await?;
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok((token.len() <= TOKEN_LIMIT_BYTES).then_some(token))
    }

    /// The key, known to whoever checks tokens: before the first token, and again every hour.
    async fn known_key(&self, store: &impl AccessStore, now: Millis) -> Result<TokenKey, StoreError> {
        let known = self.made_known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((key, since)) = known
            && now.since(since) < MADE_KNOWN
        {
            return Ok(key);
        }
        let public = self.signer.key().await?;
        let alg = public.algorithm.as_str().to_owned();
        let key = TokenKey { kid: key_id(&public), alg, pem: pem_of(&public), until: now + KEY_LIFETIME };
        store.put_token_key(&key).await?;
        tracing::info!(kid = key.kid, alg = key.alg, "the key that signs access tokens is made known");
        *self.made_known.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.clone(), now));
        Ok(key)
    }
}
