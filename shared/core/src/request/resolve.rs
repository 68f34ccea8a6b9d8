//! Validation of a kick-off.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::reference::BaseUrls;

use super::error::Handling;
use super::fixed_configuration::require_no_selection;
use super::raw::RawParameters;
use super::{AcceptedRemarks, EncryptionKey, ExportRequest, FolderLayout, Parameter, Preferences, RequestError, lists, patients, single};
use crate::access::Permissions;
use crate::vocab::clock::Millis;
use crate::vocab::container::Container;
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// A kick-off before validation.
#[derive(Clone, Debug, Default)]
pub struct RawKickOff {
    /// The level, from the path.
    pub level: Level,
    /// The preferences.
    pub preferences: Preferences,
    /// The parameters of the query and the body, in order. Those of the query are percent-decoded once.
    pub parameters: Vec<(String, String)>,
}

impl RawKickOff {
    /// Returns true if the request is for an estimate instead of an export.
    pub fn asks_for_estimate(&self) -> Result<bool, RequestError> {
        let asked: Vec<_> = self.parameters.iter().filter(|(name, _)| *name == Parameter::Estimate.as_str()).cloned().collect();
        single::flag(&RawParameters::new(&asked, &mut Handling::default())?, Parameter::Estimate)
    }
}

/// The operator's settings for requests.
#[derive(Clone, Debug, Default)]
pub struct ExportPolicy {
    /// The FHIR version of the lake.
    pub version: FhirVersion,
    /// The base URLs whose absolute references point into the lake. Those of a request need a base URL that is named here, even if any
    /// other is one of the lake's own resources.
    pub bases: BaseUrls,
    /// The containers that `_container` may name. `None` allows every valid name.
    pub containers: Option<BTreeSet<Container>>,
    /// The layouts that `_format` may name.
    pub layouts: BTreeMap<String, FolderLayout>,
    /// The keys that `_encryptionKey` may name.
    pub keys: BTreeMap<String, EncryptionKey>,
    /// The remarks about anonymization configurations that do not stop an export.
    pub accepted_remarks: AcceptedRemarks,
}

/// A valid request, with the values that are too large to be part of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResolvedRequest {
    /// The request.
    pub request: ExportRequest,
    /// The ids of the parameter `patient`, sorted and without duplicates. If [`ExportRequest::patients`] is `None`, the
    /// parameter is absent and all patients of the level are exported.
    pub patients: Vec<String>,
    /// True for `handling=lenient`: unsupported parameters are ignored instead of rejected.
    pub is_lenient: bool,
}

impl ExportRequest {
    /// Validates a kick-off.
    ///
    /// * `permissions`: the permissions of the principal. Without `_type`, the request is for all types that they allow to
    ///   read. Any other request beyond them is rejected with 403.
    /// * `now`: the current time. A `_since` in the future is rejected.
    /// * With `Prefer: handling=lenient`, unsupported parameters and values are ignored and listed in
    ///   [`ExportRequest::ignored`]. Malformed values are rejected nevertheless. So are parameters that determine the format,
    ///   place or protection of the files: `_outputFormat`, `_container`, `_format`, `_encryptionKey`,
    ///   `_anonymizationConfig`.
    /// * Standard: Bulk Data Access [`headrace_fhir::IG_VERSION`], "Bulk Data Kick-off Request".
    pub fn resolve(
        raw: &RawKickOff,
        policy: &ExportPolicy,
        permissions: &Permissions,
        now: Millis,
    ) -> Result<ResolvedRequest, RequestError> {
        let preferences = raw.preferences;
        require_id(&raw.level)?;
        let (version, level) = (policy.version, &raw.level);
        let mut handling = Handling { is_lenient: preferences.is_lenient, ..Handling::default() };
        let raw = RawParameters::new(&raw.parameters, &mut handling)?;
        require_no_selection(permissions, level, &raw)?;
        single::check_output_format(&raw)?;
        single::check_azure_parameters(&raw)?;
        single::flag(&raw, Parameter::Estimate)?;
        let types = lists::types(&raw, (version, level), &mut handling)?;
        // Filters are validated against `_type`, and associated data against filters.
        let type_filters = lists::type_filters(&raw, (version, Instant::from_millis(now.0)), types.as_ref(), &mut handling)?;
        let associated_data = lists::associated_data(&raw, level, !type_filters.is_empty(), &mut handling)?;
        let since = single::since(&raw, now)?;
        let patients = patients::patients(&raw, (level, &policy.bases), &mut handling)?;
        let request = Self {
            version,
            level: level.clone(),
            until: single::until(&raw, since)?,
            elements: lists::elements(&raw, version, &mut handling)?,
            patients: patients.as_ref().map(|ids| u32::try_from(ids.len()).unwrap_or(u32::MAX)),
            is_organized_by_patient: single::is_organized_by_patient(&raw, &mut handling)?,
            allows_partial_manifests: single::flag(&raw, Parameter::AllowPartialManifests)?,
            separates_status: preferences.separates_status,
            container: single::container(&raw, policy)?,
            layout: single::layout(&raw, policy)?,
            encryption_key: single::encryption_key(&raw, policy)?,
            anonymization: single::anonymization(&raw)?,
            types,
            since,
            type_filters,
            scope_queries: Vec::new(),
            associated_data,
            ignored: handling.ignored,
        };
        // Permissions come last: they narrow the types of a request that is otherwise valid.
        let request = request.restrict_to(permissions, now)?;
        Ok(ResolvedRequest { request, patients: patients.unwrap_or_default(), is_lenient: preferences.is_lenient })
    }
}

/// Returns true if the text is a valid resource id: 1 to 64 letters, digits, `-`, `.` and `_`, and not dots only.
///
/// FHIR does not allow the underscore, but some servers use it. Dots only could leave a path.
pub fn is_resource_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) && text.bytes().any(|byte| byte != b'.')
}

/// Fails if the path of the request names a patient or group with an invalid id.
fn require_id(level: &Level) -> Result<(), RequestError> {
    let (kind, id) = match level {
        Level::System | Level::AllPatients => return Ok(()),
        Level::OnePatient(id) => ("Patient", id),
        Level::Group(id) => ("Group", id),
    };
    if is_resource_id(id) {
        return Ok(());
    }
    let text = format!("the path does not contain a valid {kind} id: an id is 1 to 64 letters, digits, hyphens, dots and underscores");
    Err(RequestError::new(404, IssueCode::NotFound, &format!("{kind}/[id]/$export"), text))
}
