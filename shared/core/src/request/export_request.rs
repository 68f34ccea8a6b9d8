//! A valid export request.

use std::collections::BTreeSet;

use headrace_fhir::definitions::{FhirVersion, ResourceType, TypeSet};
use headrace_fhir::instant::Instant;
use serde::{Deserialize, Serialize};

use super::{AnonymizationConfig, AssociatedData, EncryptionKey, FolderLayout, IgnoredParameter, Parameter, RequestError};
use crate::vocab::container::Container;
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// A valid export request. [`ExportRequest::resolve`] creates it from a raw kick-off.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// The FHIR version of the lake.
    pub version: FhirVersion,
    /// The level.
    pub level: Level,
    /// The exported resource types (`_type`). `None` means all types.
    pub types: Option<BTreeSet<ResourceType>>,
    /// The time after which exported resources were changed (`_since`).
    pub since: Option<Instant>,
    /// The time before which exported resources were changed (`_until`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
    /// The queries of `_typeFilter`, such as `Observation?code=1234-5`, percent-decoded once. They were validated, and tasks
    /// compile them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub type_filters: Vec<String>,
    /// The queries of the client's scopes, such as `Observation?category=laboratory`. If a type has any, only resources that
    /// match at least one of them may be exported, for whichever reason they would be part of the export.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope_queries: Vec<String>,
    /// The values of `_elements`: `element` or `Type.element`. They were validated, and tasks compile them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
    /// The number of patients that the parameter `patient` names. Their ids are in [`ResolvedRequest::patients`].
    ///
    /// [`ResolvedRequest::patients`]: super::ResolvedRequest::patients
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patients: Option<u32>,
    /// The values of `includeAssociatedData`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub associated_data: BTreeSet<AssociatedData>,
    /// True for `organizeOutputBy=Patient`: files hold one block per patient. Otherwise they hold one resource type each.
    pub is_organized_by_patient: bool,
    /// True for `allowPartialManifests=true`: the manifest may have several pages.
    pub allows_partial_manifests: bool,
    /// True for `Prefer: separate-export-status`: status requests answer 200, with the status of the export in a header.
    pub separates_status: bool,
    /// The container inside the destination (`_container`).
    pub container: Option<Container>,
    /// The layout of the folder below the container (`_format`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<FolderLayout>,
    /// The key that encrypts the files (`_encryptionKey`). `None` applies the destination's default encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<EncryptionKey>,
    /// The configuration that de-identifies resources (`_anonymizationConfig`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymization: Option<AnonymizationConfig>,
    /// The parameters that were ignored because of `handling=lenient`. They are listed in the `error` file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredParameter>,
}

impl ExportRequest {
    /// Rejects `includeAssociatedData=_deleted` if the configuration of a de-identified export does not allow the report of any deletion.
    /// With `_since` alone, such deletions are counted instead.
    pub fn check_deletions(&self) -> Result<(), RequestError> {
        if self.lists_deletions() || !self.associated_data.contains(&AssociatedData::Deleted) {
            return Ok(());
        }
        let text = "includeAssociatedData=_deleted cannot be de-identified: a deletion consists of the id of the deleted resource, and \
                    the configuration does not hash ids with a key that later exports have too; hash Resource.id, and make keys \
                    with `headrace deid keygen`";
        Err(RequestError::new(400, IssueCode::NotSupported, Parameter::IncludeAssociatedData.as_str(), text))
    }

    /// Returns the kick-off URL for the manifest. For a de-identified export, ids and queries are removed from it.
    pub fn redacted_url(&self, url: &str, base: &str) -> String {
        if self.anonymization.is_none() {
            return url.to_owned();
        }
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = match &self.level {
            Level::System | Level::AllPatients => path.to_owned(),
            Level::OnePatient(_) => format!("{base}/Patient/-/$export"),
            Level::Group(_) => format!("{base}/Group/-/$export"),
        };
        let is_kept = |pair: &&str| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            Parameter::parse(name).is_some_and(|parameter| !matches!(parameter, Parameter::Patient | Parameter::TypeFilter))
        };
        let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
        if kept.is_empty() { path } else { format!("{path}?{}", kept.join("&")) }
    }

    /// Returns true if the export looks for deleted resources: on request, and for every export with `_since`. A de-identified
    /// export counts those that it must not report.
    pub fn finds_deletions(&self) -> bool {
        self.since.is_some() || self.associated_data.contains(&AssociatedData::Deleted)
    }

    /// Returns true if the manifest lists deleted resources: the export looks for them and may report them.
    pub fn lists_deletions(&self) -> bool {
        let reports = |requested: &AnonymizationConfig| requested.resolved.as_ref().is_some_and(|resolved| resolved.reports_deletions);
        self.finds_deletions() && self.anonymization.as_ref().is_none_or(reports)
    }

    /// Returns all types that the export may contain: the requested ones and those that `includeAssociatedData` adds.
    pub fn exported_types(&self) -> BTreeSet<ResourceType> {
        let all = || ResourceType::all().filter(|kind| self.version.types().contains(*kind)).collect();
        let mut types = self.types.clone().unwrap_or_else(all);
        if self.associated_data.iter().any(|value| value.is_provenance()) {
            types.insert(ResourceType::PROVENANCE);
        }
        types
    }

    /// Iterates over the scope queries of a type, each without the type and the question mark.
    pub fn scope_queries_for(&self, kind: ResourceType) -> impl Iterator<Item = &str> {
        let parts = self.scope_queries.iter().filter_map(|query| query.split_once('?'));
        parts.filter(move |(name, _)| *name == kind.as_str()).map(|(_, query)| query)
    }

    /// Returns the types of `_type` as a set for fast lookups. `None` means all types.
    pub fn type_set(&self) -> Option<TypeSet> {
        self.types.as_ref().map(|types| types.iter().copied().collect())
    }
}
