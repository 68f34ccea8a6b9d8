//! The FHIR server of a deployment, with the credential that a store of secrets keeps.

use std::time::Duration;

use headrace_client::session::Credential;
use headrace_client::signing::RequestSigner;
use headrace_client::text::error_chain;
use headrace_client::{HttpOrigin, OriginSettings, parse_stored_credential};
use headrace_core::ports::{OriginError, OriginPage, OriginRequest, OriginServer};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::OriginConfig;
use tokio::sync::Mutex;

/// The FHIR server of a deployment.
///
/// The credential is read before the first request. If the server rejects it, it is read again: it may have been rotated since.
pub struct DeployedOrigin<F> {
    config: OriginConfig,
    read_secret: Option<F>,
    signer: Option<RequestSigner>,
    connected: Mutex<Option<Connected>>,
}

/// The connections to the server, and the secret with which they were made.
struct Connected {
    origin: HttpOrigin,
    secret: Option<String>,
}

impl<F, R> DeployedOrigin<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<String, StoreError>> + Send,
{
    /// Creates the access to the server. Without `read_secret` no credential is sent.
    pub fn new(config: OriginConfig, read_secret: Option<F>) -> Self {
        Self { config, read_secret, signer: None, connected: Mutex::new(None) }
    }

    /// Signs the requests, if there is a signer.
    #[must_use]
    pub fn with_signer(self, signer: Option<RequestSigner>) -> Self {
        Self { signer, ..self }
    }

    /// Returns the connections to the server. Makes them at the first call.
    async fn connected(&self) -> Result<HttpOrigin, OriginError> {
        let mut connected = self.connected.lock().await;
        if let Some(Connected { origin, .. }) = connected.as_ref() {
            return Ok(origin.clone());
        }
        let secret = self.read_secret().await?;
        let origin = self.connect(secret.as_deref())?;
        *connected = Some(Connected { origin: origin.clone(), secret });
        Ok(origin)
    }

    /// Reads the secret again. Returns new connections if it has changed.
    async fn reconnected(&self) -> Result<Option<HttpOrigin>, OriginError> {
        let mut connected = self.connected.lock().await;
        let secret = self.read_secret().await?;
        if connected.as_ref().is_some_and(|connected| connected.secret == secret) {
            return Ok(None);
        }
        let origin = self.connect(secret.as_deref())?;
        *connected = Some(Connected { origin: origin.clone(), secret });
        Ok(Some(origin))
    }

    /// Reads the secret, if the server needs one.
    async fn read_secret(&self) -> Result<Option<String>, OriginError> {
        let Some(read_secret) = &self.read_secret else { return Ok(None) };
        match read_secret().await {
            Ok(secret) => Ok(Some(secret)),
            Err(StoreError::Misconfigured { remedy, .. }) => Err(OriginError::Misconfigured(remedy)),
            Err(error) => Err(OriginError::Unavailable(error.into())),
        }
    }

    /// Makes connections with this secret.
    fn connect(&self, secret: Option<&str>) -> Result<HttpOrigin, OriginError> {
        let invalid = |setting: Setting, problem: String| OriginError::Misconfigured(format!("{setting} {problem}"));
        let credential = match secret {
            Some(secret) => {
                parse_stored_credential(secret).map_err(|error| invalid(Setting::OriginSecret, format!("names a secret that {error}")))?
            }
            None => self.signer.clone().map_or(Credential::None, Credential::Signature),
        };
        let settings = OriginSettings {
            credential,
            token_origins: Vec::new(),
            // A worker reads one page after the other. The number of workers is that of the queue.
            requests_at_once: 1,
            requests_per_second: None,
            aliases: self.config.aliases.clone(),
        };
        HttpOrigin::new(&self.config.url, settings)
            .map_err(|error| invalid(Setting::OriginUrl, format!("cannot be used: {}", error_chain(&error))))
    }
}

impl<F, R> OriginServer for DeployedOrigin<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<String, StoreError>> + Send,
{
    async fn get(&self, request: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        let rejected = match self.connected().await?.get(request).await {
            Err(OriginError::Misconfigured(text)) => text,
            result => return result,
        };
        match self.reconnected().await? {
            Some(origin) => origin.get(request).await,
            None => Err(OriginError::Misconfigured(rejected)),
        }
    }

    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
