//! Sends events to a URL as Standard Webhooks defines it (standardwebhooks.com, version 1): the headers `webhook-id`,
//! `webhook-timestamp` and `webhook-signature`.
//!
//! The URL follows the rules of key sets: no private addresses, no redirects, no proxy. A server that answers slowly is a failed
//! delivery, and only the status of its answer is read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::events::ExportEvent;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::BoxError;
use hmac::{Hmac, KeyInit as _, Mac as _};
use lambda_http::http::header::CONTENT_TYPE;
use reqwest::Client;
use sha2::Sha256;
use tokio::sync::OnceCell;

use crate::jwks::{InvalidJwksUrl, UrlPolicy, build_client};

/// The longest duration of a delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The beginning of a secret in its usual form.
const SECRET_PREFIX: &str = "whsec_";

/// The valid lengths of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that signs webhooks. It is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// The error for text that is not the secret of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64, such as `whsec_$(openssl rand -base64 32)`")]
pub struct InvalidWebhookSecret;

/// The error for a URL that must not be called with events. It has the reason in the words of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidWebhookUrl(&'static str);

impl From<InvalidJwksUrl> for InvalidWebhookUrl {
    fn from(error: InvalidJwksUrl) -> Self {
        Self(match error {
            InvalidJwksUrl::NotAbsolute => "it is not an absolute URL",
            InvalidJwksUrl::HasUser => "it contains a user name or a password, which events do not need: they are signed; remove it",
            InvalidJwksUrl::HasFragment => "it has a fragment (#…), which is never sent; remove it",
            InvalidJwksUrl::NoHost => "it has no host",
            InvalidJwksUrl::PointsToServer => "it points to the server itself",
            InvalidJwksUrl::IsIpAddress => "its host is an IP address: use a host name, which a certificate can verify",
            InvalidJwksUrl::NotHttps => "it must begin with https://, so that nobody on the network can read the events",
            InvalidJwksUrl::NotPublic => "its address is not public",
        })
    }
}

impl WebhookSecret {
    /// Parses a secret: `whsec_` and the bytes in base64. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, InvalidWebhookSecret> {
        let encoded = text.trim().strip_prefix(SECRET_PREFIX).ok_or(InvalidWebhookSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidWebhookSecret)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(InvalidWebhookSecret) }
    }

    /// Returns the value of `webhook-signature` for a message.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> Result<String, BoxError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// The reason why a webhook was not delivered. It never names the URL, which may contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The server has answered with a redirect, which is not followed.
    #[error("the webhook's URL answered with a redirect ({0}), and redirects are not followed: set the URL that it leads to")]
    Redirect(u16),
    /// The server has not accepted the event.
    #[error("the webhook's URL answered with status {0}")]
    Status(u16),
    /// The server did not answer in time, or cannot be reached.
    #[error("the webhook's URL did not answer")]
    Failed(#[source] BoxError),
}

/// The webhook that gets the events of all exports.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// The URL.
    pub url: String,
    /// The secret.
    pub secret: WebhookSecret,
}

impl WebhookSettings {
    /// Creates the settings of a webhook. Fails if the URL must not be called.
    pub fn new(url: String, secret: WebhookSecret, policy: UrlPolicy) -> Result<Self, InvalidWebhookUrl> {
        policy.parse_url(&url)?;
        Ok(Self { url, secret })
    }
}

/// Checks the URL of a webhook that an operator registers. The addresses of its host are checked at every delivery.
pub fn check_webhook_url(url: &str, policy: UrlPolicy) -> Result<(), InvalidWebhookUrl> {
    policy.check_registered_url(url)?;
    Ok(())
}

/// The HTTP client of all webhooks, which is built at the first event.
#[derive(Debug)]
pub struct WebhookClient {
    policy: UrlPolicy,
    timeout: Duration,
    client: OnceCell<Client>,
}

impl WebhookClient {
    /// Creates a client that calls what the policy allows.
    pub fn new(policy: UrlPolicy) -> Self {
        Self { policy, timeout: TIMEOUT, client: OnceCell::new() }
    }

    /// Sets the longest duration of a delivery.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends an event to a webhook. Succeeds if the server answers with a status of 2XX.
    pub(crate) async fn send(&self, (url, secret): (&str, &WebhookSecret), event: &ExportEvent, now: Millis) -> Result<(), BoxError> {
        let (id, timestamp, body) = (event.id(), now.0 / 1_000, event.payload().to_string());
        let signature = secret.sign(&id, timestamp, &body)?;
        let url = self.policy.parse_url(url).map_err(InvalidWebhookUrl::from)?;
        let failed = |error: reqwest::Error| WebhookError::Failed(error.without_url().into());
        let client = self.client.get_or_try_init(async || build_client(self.policy)).await.map_err(failed)?;
        let request = client
            .post(url)
            .timeout(self.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        // The body of the answer is not read.
        let status = request.send().await.map_err(failed)?.status();
        if status.is_success() {
            return Ok(());
        }
        let status_code = status.as_u16();
        Err(if status.is_redirection() { WebhookError::Redirect(status_code) } else { WebhookError::Status(status_code) }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_standard_shows_it() {
        // The example of the specification of Standard Webhooks.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_url_is_refused_in_the_words_of_a_webhook() {
        let secret = WebhookSecret(vec![1; 32]);
        for (url, words) in [
            ("http://169.254.169.254/x", "nobody on the network can read the events"),
            ("https://user:password@hooks.example/x", "events do not need"),
            ("https://169.254.169.254/x", "not public"),
            ("hooks.example", "not an absolute URL"),
        ] {
            let error = WebhookSettings::new(url.to_owned(), secret.clone(), UrlPolicy::LocalClients).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("key"), "{url}: {error}");
        }
        assert!(WebhookSettings::new("http://127.0.0.1:1/x".to_owned(), secret, UrlPolicy::LocalClients).is_ok());
    }

    #[test]
    fn a_secret_has_its_prefix_and_enough_bytes() {
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_not base64!", long.as_str()] {
            assert_eq!(WebhookSecret::parse(text), Err(InvalidWebhookSecret), "{text}");
        }
        assert!(WebhookSecret::parse(&format!(" whsec_{}\n", STANDARD.encode([7; 32]))).is_ok());
        assert_eq!(format!("{:?}", WebhookSecret(vec![1])), "WebhookSecret");
    }
}
