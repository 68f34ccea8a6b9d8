//! The de-identification rules of a task.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, DeidConfigError};

use crate::job::task::Lease;
use crate::job::{ExportError, JobSecrets};
use crate::lines::deid::JobDeidentifier;
use crate::ports::{AllPorts, ConfigLookup, JobSecretEncryptor as _, OutputStore as _};
use crate::vocab::error::StoreError;

/// Returns the deidentifier of the leased task's job. Returns `None` if the export is not de-identified.
pub(super) async fn job_deidentifier(ports: &impl AllPorts, lease: &Lease) -> Result<Option<JobDeidentifier>, ExportError> {
    let job = &lease.job;
    let Some(requested) = &job.request.anonymization else { return Ok(None) };
    let unreadable = |detail: &str| StoreError::Unreadable { store: "the job table", detail: detail.to_owned() };
    let pinned = job.pinned_config.as_ref().ok_or_else(|| unreadable("no secret of a de-identified export"))?;
    let planned = job.planned.ok_or_else(|| unreadable("no plan"))?;
    let lookup = ports.output().anonymization_config(job.destination.as_deref(), &requested.name, Some(&pinned.etag)).await?;
    let text = match lookup {
        ConfigLookup::Found(text, _) => text,
        ConfigLookup::Absent | ConfigLookup::Changed | ConfigLookup::TooLong => {
            let text = "the anonymization configuration was changed or removed after the export had started; start a new export";
            return Err(ExportError::NotDeidentified(text.to_owned()));
        }
    };
    let config = parse_cached(&text, job.request.version).map_err(|error| ExportError::NotDeidentified(error.to_string()))?;
    let JobSecrets { secret, keys } = ports.jobs().decrypt(&job.id, &pinned.encrypted_secret).await?;
    let config = config.with_keys(&keys).map_err(|error| ExportError::NotDeidentified(error.to_string()))?;
    Ok(Some(JobDeidentifier::new(&config, secret, planned.time.transaction_time)))
}

/// The configurations that this process used last, so that it parses a configuration once per export and not once per task.
///
/// Keys that a configuration file contains are in them. Secrets of jobs are not.
static CACHE: Mutex<VecDeque<CachedConfig>> = Mutex::new(VecDeque::new());

/// The number of cached configurations: about the number of exports between which a process switches.
const CACHE_SIZE: usize = 4;

/// A parsed configuration, with the text that it was parsed from.
struct CachedConfig {
    text: Bytes,
    version: FhirVersion,
    config: DeidConfig,
}

/// Parses a de-identification configuration, or returns the cached result of parsing the same text.
fn parse_cached(text: &Bytes, version: FhirVersion) -> Result<DeidConfig, DeidConfigError> {
    // The lock is held while parsing: other threads that wait for it most likely need the same configuration.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cached) = cache.iter().find(|cached| cached.version == version && cached.text == *text) {
        return Ok(cached.config.clone());
    }
    let config = DeidConfig::parse(text, version)?;
    cache.truncate(CACHE_SIZE - 1);
    cache.push_front(CachedConfig { text: text.clone(), version, config: config.clone() });
    Ok(config)
}
