//! Pins the anonymization configuration and the secrets of a de-identified export.

use bytes::Bytes;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, DeidConfigError, DeidKeys};

use crate::access::Permissions;
use crate::job::{ExportError, JobSecret, JobSecrets, PinnedConfig};
use crate::ports::{ConfigLookup, JobSecretEncryptor, OutputStore};
use crate::request::{AcceptedRemarks, AnonymizationConfig, ExportRequest, Parameter, RequestError, ResolvedConfiguration};
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::ids::JobId;
use crate::vocab::outcome::IssueCode;

use super::configuration_remarks::{check_remarks, require_lasting_draws, warn_about_changing_pseudonyms};

/// The largest number of configuration errors that an answer lists.
const MAX_ERRORS_LISTED: usize = 20;

/// The configuration and the secrets of a job, and the results of its checks at the kick-off.
pub(super) struct PinnedConfiguration {
    pub(super) pinned: PinnedConfig,
    pub(super) resolved: ResolvedConfiguration,
}

/// Reads and validates the configuration that a request names, and encrypts the secrets of the job.
///
/// `own` is the client's own destination. Returns an error for the client if the configuration is absent, changed, too long,
/// invalid, has remarks that are not `accepted`, or needs lasting keys for a client with these `permissions`.
pub(super) async fn pin_configuration(
    encryptor: &impl JobSecretEncryptor,
    (output, own): (&impl OutputStore, Option<&str>),
    (id, secret): (&JobId, &JobSecret),
    (requested, request): (&AnonymizationConfig, &ExportRequest),
    (accepted, permissions): (&AcceptedRemarks, &Permissions),
) -> Result<PinnedConfiguration, ExportError> {
    let (text, etag) = read_configuration(output, own, requested).await?;
    // Keys are pinned with the job, so that all its tasks use the same ones even if the operator changes them meanwhile.
    let keys = match output.anonymization_keys(own, &requested.name).await? {
        None => DeidKeys::default(),
        Some(stored) => parse_keys(&encryptor.decrypt_keys(&stored).await?, requested)?,
    };
    let resolved = check_configuration((&text, &keys), (requested, request), (accepted, permissions))?;
    let encrypted_secret = encryptor.encrypt(id, &JobSecrets { secret: *secret, keys }).await?;
    Ok(PinnedConfiguration { pinned: PinnedConfig { etag, encrypted_secret }, resolved })
}

/// Reads and validates the configuration that a request names, as [`pin_configuration`] does. Stores nothing. The keys are not encrypted.
pub(super) async fn resolve_configuration(
    (output, own): (&impl OutputStore, Option<&str>),
    (requested, request): (&AnonymizationConfig, &ExportRequest),
    (accepted, permissions): (&AcceptedRemarks, &Permissions),
) -> Result<ResolvedConfiguration, ExportError> {
    let (text, _) = read_configuration(output, own, requested).await?;
    let keys = match output.anonymization_keys(own, &requested.name).await? {
        None => DeidKeys::default(),
        Some(stored) => parse_keys(&stored, requested)?,
    };
    check_configuration((&text, &keys), (requested, request), (accepted, permissions))
}

/// Parses the keys of a configuration.
fn parse_keys(text: &[u8], requested: &AnonymizationConfig) -> Result<DeidKeys, RequestError> {
    DeidKeys::parse(text).map_err(|error| rejection(IssueCode::Invalid, format!("`{}.keys`: {error}", requested.name.as_str())))
}

/// Validates a configuration with its keys, and checks the remarks about it.
fn check_configuration(
    (text, keys): (&Bytes, &DeidKeys),
    (requested, request): (&AnonymizationConfig, &ExportRequest),
    (accepted, permissions): (&AcceptedRemarks, &Permissions),
) -> Result<ResolvedConfiguration, ExportError> {
    let config = parse_configuration(text, request.version, keys).map_err(|errors| invalid_configuration(requested, &errors))?;
    require_lasting_draws(&config, requested, permissions)?;
    let accepted_remarks = check_remarks((text, &config), (requested, request), accepted)?;
    warn_about_changing_pseudonyms(&config, request.since.is_some());
    Ok(ResolvedConfiguration {
        digest: ConfigDigest::from_bytes(text),
        content: Some(ConfigDigest::with_keys(text, keys)),
        accepted_remarks,
        reports_deletions: request.exported_types().into_iter().any(|kind| config.has_lasting_ids(kind)),
    })
}

/// Parses a configuration and completes it with its keys.
fn parse_configuration(text: &Bytes, version: FhirVersion, keys: &DeidKeys) -> Result<DeidConfig, DeidConfigError> {
    DeidConfig::parse(text, version)?.with_keys(keys)
}

/// Creates the error of a request with a configuration that cannot be used.
fn rejection(code: IssueCode, text: String) -> RequestError {
    RequestError::new(400, code, Parameter::AnonymizationConfig.as_str(), text)
}

/// Creates the error of a configuration that cannot be parsed.
fn invalid_configuration(requested: &AnonymizationConfig, errors: &DeidConfigError) -> RequestError {
    let listed: Vec<String> = errors.0.iter().take(MAX_ERRORS_LISTED).map(ToString::to_string).collect();
    let more = errors.0.len().saturating_sub(MAX_ERRORS_LISTED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let text = format!("the configuration `{}` cannot be used: {}{more}", requested.name.as_str(), listed.join("; "));
    rejection(IssueCode::Invalid, text)
}

/// Reads the file of a configuration. Returns its bytes and its entity tag.
async fn read_configuration(
    output: &impl OutputStore,
    own: Option<&str>,
    requested: &AnonymizationConfig,
) -> Result<(Bytes, String), ExportError> {
    let name = requested.name.as_str();
    let error = match output.anonymization_config(own, &requested.name, requested.etag.as_deref()).await? {
        ConfigLookup::Found(text, etag) => return Ok((text, etag)),
        ConfigLookup::Absent => {
            let text = format!(
                "there is no configuration `{name}` in the folder `anonymization` of the destination: put it there, or correct its name"
            );
            rejection(IssueCode::NotFound, text)
        }
        ConfigLookup::Changed => {
            let text = format!(
                "the configuration `{name}` does not have the ETag that _anonymizationConfigEtag or the client's registration names: check the configuration, and name its current ETag"
            );
            RequestError::new(400, IssueCode::Conflict, Parameter::AnonymizationConfigEtag.as_str(), text)
        }
        ConfigLookup::TooLong => {
            rejection(IssueCode::TooCostly, format!("the configuration `{name}` is longer than 1 MB, the largest size that is read"))
        }
    };
    Err(error.into())
}
