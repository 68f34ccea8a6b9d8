//! Signs requests to servers of AWS that have no SDK here (Signature Version 4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningError, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use headrace_core::ports::{SignatureFuture, UnsignedRequest};
use tokio::sync::Mutex;

/// The time before their end at which credentials are renewed.
const RENEWAL: Duration = Duration::from_secs(300);

/// The reason why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum RequestSigningError {
    /// The credentials cannot be obtained.
    #[error("the AWS credentials cannot be obtained")]
    Credentials(#[source] ProviderError),
    /// The request has a part that cannot be signed.
    #[error("the request cannot be signed")]
    Request(#[source] SigningError),
    /// The parameters of a signature are incomplete.
    #[error("the signature needs a region and a service")]
    Parameters,
}

/// A signer of requests to a service in a region. Clones share the credentials.
#[derive(Clone, Debug)]
pub struct AwsRequestSigner {
    provider: SharedCredentialsProvider,
    region: String,
    service: String,
    credentials: Arc<Mutex<Option<Credentials>>>,
}

impl AwsRequestSigner {
    /// Creates a signer with the credentials of this provider.
    pub fn new(provider: SharedCredentialsProvider, region: impl Into<String>, service: impl Into<String>) -> Self {
        Self { provider, region: region.into(), service: service.into(), credentials: Arc::default() }
    }

    /// Returns the signer as a function, for a client that does not know AWS.
    pub fn into_fn(self) -> impl Fn(UnsignedRequest) -> SignatureFuture + Send + Sync + 'static {
        move |request: UnsignedRequest| -> SignatureFuture {
            let signer = self.clone();
            Box::pin(async move { Ok(signer.sign(&request).await?) })
        }
    }

    /// Returns the header fields that sign a request: `authorization`, `x-amz-date`, and with temporary credentials `x-amz-security-token`.
    async fn sign(&self, request: &UnsignedRequest) -> Result<Vec<(String, String)>, RequestSigningError> {
        let time = UNIX_EPOCH + Duration::from_millis(request.at.0);
        let identity = self.credentials(time, request.renews_credentials).await?.into();
        let params = SigningParams::builder().identity(&identity).region(&self.region).name(&self.service).time(time);
        let params = params.settings(SigningSettings::default()).build().map_err(|_| RequestSigningError::Parameters)?.into();
        let request = SignableRequest::new(&request.method, &request.url, std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(RequestSigningError::Request)?;
        let (instructions, _) = sign(request, &params).map_err(RequestSigningError::Request)?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Returns the credentials. Obtains them at the first call, before they end, and if they were rejected.
    async fn credentials(&self, now: SystemTime, renews: bool) -> Result<Credentials, RequestSigningError> {
        let mut known = self.credentials.lock().await;
        let is_valid = |credentials: &Credentials| credentials.expiry().is_none_or(|expiry| expiry > now + RENEWAL);
        if let Some(credentials) = known.as_ref().filter(|credentials| !renews && is_valid(credentials)) {
            return Ok(credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await.map_err(RequestSigningError::Credentials)?;
        *known = Some(credentials.clone());
        Ok(credentials)
    }
}
