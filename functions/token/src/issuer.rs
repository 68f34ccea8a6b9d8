//! Issues access tokens: short-lived, and signed with a key whose public half is published first.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::{TokenBinding, TokenKey};
use headrace_core::ports::{AccessStore, TokenSigner};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_edge::auth::{ACCESS_TOKEN_TYPE, AccessTokenClaims};
use headrace_edge::jose::{TOKEN_LIMIT_BYTES, key_id, to_pem};
use headrace_edge::system::random_id;
use serde_json::json;

/// The lifetime of a token: the longest that SMART recommends.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// The time for which a published key is accepted. Signing processes publish it again long before.
const KEY_LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// The interval at which a process publishes its key again.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(3600);

/// The signer of access tokens. It lives as long as the process.
pub(crate) struct TokenIssuer<S> {
    signer: S,
    published: Mutex<Option<(TokenKey, Millis)>>,
}

/// The variable claims of a token.
pub(crate) struct TokenSubject<'a> {
    /// The client.
    pub(crate) client: &'a Caller,
    /// The client's registration.
    pub(crate) registration: TokenBinding,
    /// The granted scopes.
    pub(crate) scope: &'a str,
    /// The FHIR base URL: issuer and audience of the token.
    pub(crate) base: &'a str,
}

impl<S: TokenSigner> TokenIssuer<S> {
    /// Creates an issuer that signs tokens with this signer.
    pub(crate) fn new(signer: S) -> Self {
        Self { signer, published: Mutex::default() }
    }

    /// Issues a token. `None` if it would be too long for a header.
    pub(crate) async fn issue(
        &self,
        store: &impl AccessStore,
        subject: &TokenSubject<'_>,
        now: Millis,
    ) -> Result<Option<String>, StoreError> {
        let key = self.published_key(store, now).await?;
        let seconds = now.0 / 1_000;
        let claims = AccessTokenClaims {
            iss: subject.base.to_owned(),
            sub: subject.client.0.clone(),
            client_id: subject.client.0.clone(),
            aud: subject.base.to_owned(),
            scope: subject.scope.to_owned(),
            registration: subject.registration.clone(),
            iat: seconds,
            exp: seconds + LIFETIME.as_secs(),
            jti: random_id()?,
        };
        let header = json!({ "alg": key.alg, "kid": key.kid, "typ": ACCESS_TOKEN_TYPE });
        let unreadable = |error: serde_json::Error| StoreError::Unreadable { store: "the token", detail: error.to_string() };
        let claims = serde_json::to_vec(&claims).map_err(unreadable)?;
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(message.as_bytes()).await?;
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok((token.len() <= TOKEN_LIMIT_BYTES).then_some(token))
    }

    /// Returns the signing key. Publishes its public half for the verifiers before the first token, and again every hour.
    async fn published_key(&self, store: &impl AccessStore, now: Millis) -> Result<TokenKey, StoreError> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((key, since)) = published
            && now.since(since) < PUBLISH_INTERVAL
        {
            return Ok(key);
        }
        let public = self.signer.key().await?;
        let alg = public.algorithm.as_str().to_owned();
        let key = TokenKey { kid: key_id(&public), alg, pem: to_pem(&public), expires_at: now + KEY_LIFETIME };
        store.put_token_key(&key).await?;
        tracing::info!(kid = key.kid, alg = key.alg, "the public key of access tokens was published");
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.clone(), now));
        Ok(key)
    }
}
