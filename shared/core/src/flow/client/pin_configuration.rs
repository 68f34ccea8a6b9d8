//! Pins the anonymization configuration and the secret of a de-identified export.

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::DeidConfig;

use crate::job::{ExportError, JobSecret, PinnedConfig};
use crate::ports::{ConfigLookup, JobSecretEncryptor, OutputStore};
use crate::request::{AnonymizationConfig, Parameter, RequestError};
use crate::vocab::ids::JobId;
use crate::vocab::outcome::IssueCode;

/// The largest number of configuration errors that an answer lists.
const MAX_ERRORS_LISTED: usize = 20;

/// Reads and validates the configuration that a request names, and encrypts the secret of the job.
///
/// `own` is the client's own destination. Returns an error for the client if the configuration is absent, changed, too long or
/// invalid.
pub(super) async fn pin_configuration(
    encryptor: &impl JobSecretEncryptor,
    (output, own): (&impl OutputStore, Option<&str>),
    (id, secret): (&JobId, &JobSecret),
    requested: &AnonymizationConfig,
    version: FhirVersion,
) -> Result<PinnedConfig, ExportError> {
    let reject = |code, parameter: Parameter, text: String| Err(RequestError::new(400, code, parameter.as_str(), text).into());
    let (parameter, name) = (Parameter::AnonymizationConfig, requested.name.as_str());
    let (text, etag) = match output.anonymization_config(own, &requested.name, requested.etag.as_deref()).await? {
        ConfigLookup::Found(text, etag) => (text, etag),
        ConfigLookup::Absent => {
            let text = format!(
                "there is no configuration `{name}` in the folder `anonymization` of the destination: put it there, or correct its name"
            );
            return reject(IssueCode::NotFound, parameter, text);
        }
        ConfigLookup::Changed => {
            let text = format!(
                "the configuration `{name}` does not have the ETag that _anonymizationConfigEtag names: check the configuration, and send its current ETag"
            );
            return reject(IssueCode::Conflict, Parameter::AnonymizationConfigEtag, text);
        }
        ConfigLookup::TooLong => {
            let text = format!("the configuration `{name}` is longer than 1 MB, the largest size that is read");
            return reject(IssueCode::TooCostly, parameter, text);
        }
    };
    if let Err(errors) = DeidConfig::parse(&text, version) {
        let listed: Vec<String> = errors.0.iter().take(MAX_ERRORS_LISTED).map(ToString::to_string).collect();
        let more = errors.0.len().saturating_sub(MAX_ERRORS_LISTED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let text = format!("the configuration `{name}` cannot be used: {}{more}", listed.join("; "));
        return reject(IssueCode::Invalid, parameter, text);
    }
    Ok(PinnedConfig { etag, encrypted_secret: encryptor.encrypt(id, secret).await? })
}
