//! Stops an export whose configuration has remarks that the operator does not accept.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{ChangingDraws, DeidConfig, DeidRemark};

use crate::access::Permissions;
use crate::job::{ExportError, RemarkedConfiguration};
use crate::request::{AcceptedRemarks, AnonymizationConfig, ExportRequest, Parameter, RemarkNames, RequestError};
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::outcome::IssueCode;

/// The largest number of remarks that an answer spells out. Their names are all listed.
const MAX_REMARKS_LISTED: usize = 20;

/// Returns the names of the accepted remarks about a configuration. Returns an error if there are others.
///
/// * `text`: the file. `config`: the same with its keys.
pub(super) fn check_remarks(
    (text, config): (&Bytes, &DeidConfig),
    (requested, request): (&AnonymizationConfig, &ExportRequest),
    accepted: &AcceptedRemarks,
) -> Result<BTreeSet<String>, ExportError> {
    let mut remarks = lint_cached(text, request.version, config);
    remarks.extend(config.key_remarks());
    remarks.extend(if request.since.is_some() { config.increment_remarks() } else { config.lasting_key_remarks() });
    let remark_names = RemarkNames::new(text, request.version);
    let (accepted, open): (Vec<&DeidRemark>, Vec<&DeidRemark>) =
        remarks.iter().partition(|remark| accepted.accepts(&requested.name, &remark_names, remark));
    let names = |remarks: &[&DeidRemark]| remarks.iter().map(|remark| remark_names.name(remark)).collect::<BTreeSet<String>>();
    let digest = ConfigDigest::from_bytes(text);
    if open.is_empty() {
        let accepted = names(&accepted);
        if !accepted.is_empty() {
            let joined = join(&accepted);
            tracing::warn!(configuration = %digest, accepted = joined, "an export uses a configuration with remarks that were accepted");
        }
        return Ok(accepted);
    }
    let names = names(&open);
    let listed: Vec<String> = open.iter().take(MAX_REMARKS_LISTED).map(ToString::to_string).collect();
    let text = format!(
        "the configuration `{}` is not used, because of remarks about it: {}; correct it, or have the remarks accepted by name: {}",
        requested.name.as_str(),
        listed.join("; "),
        join(&names)
    );
    // The client gets the remarks, so that nobody else has to act.
    tracing::info!(configuration = %digest, remarks = join(&names), "an export was stopped by remarks about its configuration");
    Err(RemarkedConfiguration { digest, remarks: names, text }.into())
}

/// Fails if each export of a client with fixed configurations would have other shifts of dates or other noise.
///
/// The lines of two exports of a lake are in the same order, so that the client could join its exports line by line, and average them.
pub(super) fn require_lasting_draws(
    config: &DeidConfig,
    requested: &AnonymizationConfig,
    permissions: &Permissions,
) -> Result<(), RequestError> {
    let Some(draws) = config.changing_draws().filter(|_| permissions.fixed_configurations().is_some()) else { return Ok(()) };
    let name = requested.name.as_str();
    let remedy = match draws {
        ChangingDraws::MissingKeys => format!(
            "make lasting keys with `headrace deid keygen`, and to put them beside the configuration, as `anonymization/{name}.keys` in the \
             destination"
        ),
        ChangingDraws::EncryptedIds => "set dateShiftScope to `patient`, or not to encrypt ids".to_owned(),
    };
    let text = format!(
        "the configuration `{name}` shifts dates or perturbs numbers anew in each export, so that this client could average several exports: \
         ask the operator of this server to {remedy}"
    );
    Err(RequestError::new(403, IssueCode::Forbidden, Parameter::AnonymizationConfig.as_str(), text))
}

/// Joins names with commas, as the operator writes them.
fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// Warns that the pseudonyms of an export differ from those of every other one, if the configuration has no lasting keys.
pub(super) fn warn_about_changing_pseudonyms(config: &DeidConfig, is_increment: bool) {
    let derived = config.derived_key_names();
    if derived.is_empty() {
        return;
    }
    let (keys, changing) = (derived.join(", "), changing_values(&derived));
    if is_increment {
        tracing::warn!(
            keys,
            "this increment cannot be joined with earlier exports: these keys are not given, so its {changing} are new; \
             make keys with `headrace deid keygen`"
        );
    } else {
        tracing::warn!(
            keys,
            "these keys are not given, so no later export has the same {changing}; for increments, make keys with \
             `headrace deid keygen`"
        );
    }
}

/// Names what differs between exports if these keys are not given.
fn changing_values(keys: &[&str]) -> &'static str {
    match (keys.contains(&"dateShiftKey"), keys.len()) {
        (false, _) => "pseudonyms",
        (true, 1) => "dates",
        (true, _) => "pseudonyms and dates",
    }
}

/// The remarks about the configurations that this process checked last: the check takes a second for hundreds of rules.
static CACHE: Mutex<VecDeque<CheckedConfiguration>> = Mutex::new(VecDeque::new());

/// The number of cached results: about the number of configurations of a deployment.
const CACHE_SIZE: usize = 8;

struct CheckedConfiguration {
    digest: ConfigDigest,
    version: FhirVersion,
    remarks: Vec<DeidRemark>,
}

/// Returns the remarks about a file, which do not depend on its keys.
fn lint_cached(text: &Bytes, version: FhirVersion, config: &DeidConfig) -> Vec<DeidRemark> {
    let digest = ConfigDigest::from_bytes(text);
    // The lock is held while checking: other threads that wait for it most likely need the same configuration.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.iter().find(|known| known.version == version && known.digest == digest) {
        return known.remarks.clone();
    }
    let remarks = config.lint();
    cache.truncate(CACHE_SIZE - 1);
    cache.push_front(CheckedConfiguration { digest, version, remarks: remarks.clone() });
    remarks
}
