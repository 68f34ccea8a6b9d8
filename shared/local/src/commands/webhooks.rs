//! The webhook of a client or a schedule, from the command line.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::webhook::RegisteredWebhook;
use headrace_edge::jwks::UrlPolicy;
use headrace_edge::webhook::{InvalidWebhookSecret, InvalidWebhookUrl, WebhookSecret, check_webhook_url};

use crate::cli::{RegistryLocation, WebhookArgs};
use crate::server::state::{KEYS_FOLDER, SECRETS_KEY_FILE};
use crate::stores::encryptor::FileSecretEncryptor;
use crate::stores::regular_file::read_regular_file_to_string;

/// The reason why a webhook cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL must not be called.
    #[error("--url: {0}")]
    Url(#[from] InvalidWebhookUrl),
    /// The file cannot be read.
    #[error("--secret-file: `{path}` cannot be read")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The file does not hold a secret.
    #[error("--secret-file: `{path}` cannot be used: {problem}")]
    Secret {
        /// Path of the file.
        path: PathBuf,
        /// Problem that was found.
        problem: InvalidWebhookSecret,
    },
    /// The file holds a secret that is not encrypted.
    #[error(
        "--secret-file: `{0}` holds the secret itself, and a deployment takes it encrypted: name a file with what `aws kms encrypt` prints, \
         as docs/events.md shows"
    )]
    NotEncrypted(PathBuf),
    /// The file does not hold base64.
    #[error("--secret-file: `{0}` is not base64: name a file with what `aws kms encrypt` prints, as docs/events.md shows")]
    NotBase64(PathBuf),
    /// The key of the state folder cannot be used.
    #[error(transparent)]
    Key(#[from] StoreError),
}

/// Returns the webhook of the arguments, with its secret encrypted, or `None` to remove it. The state folder must exist.
pub(super) fn registered_webhook(args: &WebhookArgs, registry: &RegistryLocation) -> Result<Option<RegisteredWebhook>, WebhookError> {
    let (Some(url), Some(path)) = (&args.url, &args.secret_file) else { return Ok(None) };
    let policy = if registry.table.is_some() { UrlPolicy::Clients } else { UrlPolicy::LocalClients };
    check_webhook_url(url, policy)?;
    let text = read_regular_file_to_string(path).map_err(|cause| WebhookError::File { path: path.clone(), cause })?;
    let encrypted_secret = match &registry.table {
        Some(_) => decode_ciphertext(&text, path)?,
        None => {
            WebhookSecret::parse(&text).map_err(|problem| WebhookError::Secret { path: path.clone(), problem })?;
            let key = registry.state.join(KEYS_FOLDER).join(SECRETS_KEY_FILE);
            FileSecretEncryptor::new(key).encrypt_webhook_secret(text.trim().as_bytes())?
        }
    };
    Ok(Some(RegisteredWebhook { url: url.clone(), encrypted_secret }))
}

/// Decodes a secret that KMS has encrypted. Only KMS can tell whether the deployment can decrypt it.
fn decode_ciphertext(text: &str, path: &Path) -> Result<Vec<u8>, WebhookError> {
    if WebhookSecret::parse(text).is_ok() {
        return Err(WebhookError::NotEncrypted(path.to_owned()));
    }
    let decoded = STANDARD.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty());
    decoded.ok_or_else(|| WebhookError::NotBase64(path.to_owned()))
}

/// Describes what was done with the webhook of `subject`.
pub(super) fn describe_webhook(subject: &str, webhook: Option<&RegisteredWebhook>) -> String {
    match webhook {
        Some(webhook) => format!("`{subject}` has a webhook: {} gets the events of its exports, from the next one on\n", webhook.server()),
        None => format!("`{subject}` has no webhook\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result for a webhook of a deployment whose secret file has this content.
    fn on_deployment(url: &str, secret: &str) -> Result<Option<RegisteredWebhook>, WebhookError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let args = WebhookArgs { url: Some(url.to_owned()), secret_file: Some(file), remove: false };
        registered_webhook(&args, &RegistryLocation { state: folder.path().to_owned(), table: Some("jobs".to_owned()) })
    }

    #[test]
    fn a_deployment_takes_the_secret_encrypted_and_a_public_url() {
        let webhook = on_deployment("https://hooks.example.org/lab", "AQICAHh0\n").unwrap().unwrap();
        assert_eq!(webhook.encrypted_secret, STANDARD.decode("AQICAHh0").unwrap());
        let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
        assert!(matches!(on_deployment("https://hooks.example.org/lab", &secret), Err(WebhookError::NotEncrypted(_))));
        for text in ["", "no base64"] {
            assert!(matches!(on_deployment("https://hooks.example.org/lab", text), Err(WebhookError::NotBase64(_))), "{text}");
        }
        for url in ["http://hooks.example.org/", "https://localhost/", "http://localhost:8080/", "https://10.0.0.1/", "hooks"] {
            assert!(matches!(on_deployment(url, "AQICAHh0"), Err(WebhookError::Url(_))), "{url}");
        }
    }
}
