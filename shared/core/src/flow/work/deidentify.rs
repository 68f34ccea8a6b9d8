//! How an export is de-identified: what a kick-off pins, and what each task works with.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use headrace_fhir::{DeidErrors, Deidentification, FhirVersion};

use crate::job::anonymization::{Anonymization, Configuration, Deid, JobSecret, Pinned, terms};
use crate::job::task::Lease;
use crate::ports::{AllPorts, JobStore, OutputStore};
use crate::request::{Parameter, Refusal};
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::ids::JobId;
use crate::vocab::outcome::IssueCode;

/// The most faults of a configuration that an answer lists.
const FAULTS: usize = 20;

/// Reads the configuration that a request names, to see whether an export can go by it, and seals the job's secret.
pub(in crate::flow) async fn pin(
    jobs: &impl JobStore,
    (parts, own): (&impl OutputStore, Option<&str>),
    (id, secret): (&JobId, &JobSecret),
    asked: &Anonymization,
    version: FhirVersion,
) -> Result<Pinned, ExportError> {
    let refuse = |code, parameter: Parameter, text: String| Err(Refusal::of(400, code, parameter.as_str(), text).into());
    let (parameter, name) = (Parameter::AnonymizationConfig, asked.config.as_str());
    let (text, etag) = match parts.configuration(own, &asked.config, asked.etag.as_deref()).await? {
        Configuration::Found(text, etag) => (text, etag),
        Configuration::Absent => {
            let text = format!(
                "there is no configuration `{name}` in the folder `anonymization` of the destination: put it there, or correct its name"
            );
            return refuse(IssueCode::NotFound, parameter, text);
        }
        Configuration::Changed => {
            let text = format!(
                "the configuration `{name}` is not in the state that _anonymizationConfigEtag names: look at it, and send the tag that it has now"
            );
            return refuse(IssueCode::Conflict, Parameter::AnonymizationConfigEtag, text);
        }
        Configuration::TooLong => {
            let text = format!("the configuration `{name}` is longer than the 1 MB that is read");
            return refuse(IssueCode::TooCostly, parameter, text);
        }
    };
    if let Err(faults) = Deidentification::read(&text, version) {
        let listed: Vec<String> = faults.0.iter().take(FAULTS).map(ToString::to_string).collect();
        let more = if faults.0.len() > FAULTS { format!("; and {} more", faults.0.len() - FAULTS) } else { String::new() };
        let text = format!("the configuration `{name}` cannot be used: {}{more}", listed.join("; "));
        return refuse(IssueCode::Invalid, parameter, text);
    }
    Ok(Pinned { etag, sealed: jobs.seal(id, secret).await? })
}

/// What the leased task de-identifies with; `None` if its export is not de-identified.
pub(super) async fn deid(ports: &impl AllPorts, lease: &Lease) -> Result<Option<Deid>, ExportError> {
    let job = &lease.job;
    let Some(asked) = &job.request.anonymization else { return Ok(None) };
    let unreadable = |detail: &str| StoreError::Unreadable { what: "the job table", detail: detail.to_owned() };
    let pinned = job.pinned.as_ref().ok_or_else(|| unreadable("no secret of a de-identified export"))?;
    let planned = job.planned.ok_or_else(|| unreadable("no plan"))?;
    let found = ports.parts().configuration(job.destination.as_deref(), &asked.config, Some(&pinned.etag)).await?;
    let changed = || {
        let text = "its anonymization configuration was changed or removed after it had begun; start a new export";
        ExportError::NotDeidentified(text.to_owned())
    };
    let text = match found {
        Configuration::Found(text, _) => text,
        Configuration::Absent | Configuration::Changed | Configuration::TooLong => return Err(changed()),
    };
    let rules = read(&text, job.request.version).map_err(|faults| ExportError::NotDeidentified(faults.to_string()))?;
    let secret = ports.jobs().unseal(&job.id, &pinned.sealed).await?;
    Ok(Some(Deid { rules: rules.with(&terms(&secret, planned.transaction_time.day())), secret }))
}

/// The configurations that this process read last, so that it compiles the rules of an export once and not for each of its tasks.
/// Keys of files are in them, secrets of jobs are not.
static KNOWN: Mutex<VecDeque<Known>> = Mutex::new(VecDeque::new());

/// How many exports a process is likely to work on by turns.
const KNOWN_AT_MOST: usize = 4;

struct Known {
    text: Bytes,
    version: FhirVersion,
    rules: Deidentification,
}

fn read(text: &Bytes, version: FhirVersion) -> Result<Deidentification, DeidErrors> {
    // Whoever else waits for the lock most likely wants the same.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.iter().find(|known| known.version == version && known.text == *text) {
        return Ok(known.rules.clone());
    }
    let rules = Deidentification::read(text, version)?;
    known.truncate(KNOWN_AT_MOST - 1);
    known.push_front(Known { text: text.clone(), version, rules: rules.clone() });
    Ok(rules)
}
