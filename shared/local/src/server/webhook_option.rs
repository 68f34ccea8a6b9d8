//! The webhook of a server on one machine, from its options.

use std::io;
use std::path::PathBuf;

use headrace_edge::jwks::UrlPolicy;
use headrace_edge::webhook::{InvalidWebhookSecret, InvalidWebhookUrl, WebhookSecret, WebhookSettings};

use crate::cli::{EventOptions, non_empty};
use crate::stores::private::is_accessible_by_others;
use crate::stores::regular_file::read_regular_file_to_string;

/// Reason why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookOptionError {
    /// One of the two options is missing.
    #[error("--event-webhook-url and --event-webhook-secret-file belong together: set both or none")]
    Incomplete,
    /// The URL must not be called.
    #[error("--event-webhook-url: {0}")]
    Url(InvalidWebhookUrl),
    /// The file cannot be read.
    #[error("--event-webhook-secret-file: `{path}` cannot be read")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The file does not hold a secret.
    #[error("--event-webhook-secret-file: `{path}` cannot be used: {problem}")]
    Secret {
        /// Path of the file.
        path: PathBuf,
        /// Problem that was found.
        problem: InvalidWebhookSecret,
    },
}

/// Returns the webhook of the options, or `None` if they name none.
pub(crate) fn webhook(options: &EventOptions) -> Result<Option<WebhookSettings>, WebhookOptionError> {
    let (url, path) = match (non_empty(&options.event_webhook_url), &options.event_webhook_secret_file) {
        (None, None) => return Ok(None),
        (Some(url), Some(path)) => (url, path),
        (Some(_), None) | (None, Some(_)) => return Err(WebhookOptionError::Incomplete),
    };
    if std::fs::metadata(path).is_ok_and(|file| file.is_file() && is_accessible_by_others(&file)) {
        tracing::warn!(
            "other users can read the file of --event-webhook-secret-file, `{}`; remove their access: chmod 600",
            path.display()
        );
    }
    let text = read_regular_file_to_string(path).map_err(|cause| WebhookOptionError::File { path: path.clone(), cause })?;
    let secret = WebhookSecret::parse(&text).map_err(|problem| WebhookOptionError::Secret { path: path.clone(), problem })?;
    WebhookSettings::new(url.to_owned(), secret, UrlPolicy::LocalClients).map(Some).map_err(WebhookOptionError::Url)
}
