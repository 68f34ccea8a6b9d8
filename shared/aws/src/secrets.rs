//! Secrets in Secrets Manager.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;

use crate::errors::Service;

/// The name of the store in errors.
const STORE: &str = "the secret of the FHIR server";

/// A secret that Secrets Manager keeps.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    client: Client,
    service: Service,
}

impl StoredSecret {
    /// Creates a client of the secret with this ARN or name.
    pub fn new(client: Client, id: impl Into<String>) -> Self {
        Self { client, service: Service::new(STORE, Setting::OriginSecret.as_str(), id) }
    }

    /// Reads the current text of the secret.
    pub async fn read(&self) -> Result<String, StoreError> {
        let response = self.client.get_secret_value().secret_id(&self.service.value).send().await;
        let response = response.map_err(|error| self.read_error(error))?;
        response.secret_string.ok_or_else(|| StoreError::Misconfigured {
            remedy: format!("{} names a secret that is binary; store it as JSON", Setting::OriginSecret.as_str()),
            cause: "the secret has no text".into(),
        })
    }

    /// Converts an error of a read. A secret that is scheduled for deletion cannot be read until somebody restores it.
    fn read_error(&self, error: SdkError<GetSecretValueError>) -> StoreError {
        if error.as_service_error().is_some_and(GetSecretValueError::is_invalid_request_exception) {
            let remedy = format!(
                "{} is `{}`, which cannot be read in its state; restore it if it is scheduled for deletion, or name another secret",
                self.service.setting, self.service.value
            );
            return StoreError::Misconfigured { remedy, cause: error.into() };
        }
        self.service.store_error(error)
    }
}

#[cfg(test)]
#[path = "tests/secrets.rs"]
mod tests;
