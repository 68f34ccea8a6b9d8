//! What a client may ask for, and what it is told when it may not.

mod given;
mod lists;
mod parameter;
mod patients;
mod place;
mod preferences;
mod reach;
mod refusal;
mod single;

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{Bases, FhirVersion, Instant, ResourceType, TypeSet};
use serde::{Deserialize, Serialize};

use crate::access::Reach;
use crate::job::anonymization::Anonymization;
use crate::vocab::clock::Millis;
use crate::vocab::outcome::IssueCode;
use crate::vocab::text::stored_as_text;

use given::RawParameters;
pub use parameter::Parameter;
pub use place::{Container, InvalidJobKey, InvalidLayout, JobKey, Layout};
use preferences::{Preferences, require_accept};
use refusal::Handling;
pub use refusal::{IgnoredParameter, Refusal};

/// The kick-off as it came over the wire: nothing believed yet.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What the path names.
    pub level: Level,
    /// Every `Accept` header's value.
    pub accept: Vec<String>,
    /// Every `Prefer` header's value.
    pub prefer: Vec<String>,
    /// The parameters of query and body in order, those of the query percent-decoded once.
    pub parameters: Vec<(String, String)>,
}

/// Whose data an export is about (Bulk Data Access, "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// `[base]/$export`: everything.
    #[default]
    System,
    /// `[base]/Patient/$export`.
    AllPatients,
    /// `[base]/Patient/[id]/$export`: the patient's id.
    OnePatient(String),
    /// `[base]/Group/[id]/$export`: the group's id.
    Group(String),
}

/// A valid request, resolved from what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// The lake's version of FHIR.
    pub version: FhirVersion,
    /// Whose data.
    pub level: Level,
    /// `_type`: only these types; `None` means every type.
    pub types: Option<BTreeSet<ResourceType>>,
    /// `_since`: only resources changed later than this.
    pub since: Option<Instant>,
    /// `_until`: only resources changed earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
    /// `_typeFilter`: queries such as `Observation?code=1234-5`, decoded once, one each. Checked when the request was
    /// resolved; whoever runs the export compiles them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub type_filters: Vec<String>,
    /// What the client's scopes say of single types, as queries such as `Observation?category=laboratory`: of a type that
    /// has any, only what matches one of them may be exported, whatever brings it into the export.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// `_elements`: `element` or `Type.element`, one each. Checked like the filters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
    /// `patient`: how many patients were named; their ids are in [`crate::job::task::Planning`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patients: Option<u32>,
    /// `includeAssociatedData`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub associated: BTreeSet<Associated>,
    /// `organizeOutputBy=Patient`: blocks of a patient each instead of files of a type each.
    pub is_organized: bool,
    /// `allowPartialManifests=true`: the manifest may come in pages.
    pub allows_partial_manifests: bool,
    /// `Prefer: separate-export-status`: polls answer 200, and the export's own status in a header.
    pub separates_status: bool,
    /// `_container`: the caller's named place inside the destination.
    pub container: Option<Container>,
    /// `_format`: where the files lie below the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// `_encryptionKey`: what the files are encrypted under instead of what the destination does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<JobKey>,
    /// `_anonymizationConfig`: resources are de-identified by this configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymization: Option<Anonymization>,
    /// What was asked for and is left out, because the client preferred `handling=lenient`: lines of the `error` file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredParameter>,
}

/// A value of `includeAssociatedData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Associated {
    /// The most recent Provenance of each resource.
    LatestProvenanceResources,
    /// Every Provenance of each resource.
    RelevantProvenanceResources,
    /// Every version of each resource (Azure).
    History,
    /// What was deleted, also without `_since` (Azure).
    Deleted,
}

impl Associated {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::LatestProvenanceResources, Self::RelevantProvenanceResources, Self::History, Self::Deleted];

    /// As a request spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LatestProvenanceResources => "LatestProvenanceResources",
            Self::RelevantProvenanceResources => "RelevantProvenanceResources",
            Self::History => "_history",
            Self::Deleted => "_deleted",
        }
    }

    /// Whether it adds Provenance, be it of other types than those asked for.
    fn is_provenance(self) -> bool {
        match self {
            Self::LatestProvenanceResources | Self::RelevantProvenanceResources => true,
            Self::History | Self::Deleted => false,
        }
    }

    /// The value of this exact name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == name)
    }
}

stored_as_text!(Associated, Self::named, "not a value of includeAssociatedData");

/// What the operator allows, and what the lake is.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The lake's version of FHIR.
    pub version: FhirVersion,
    /// Which absolute references are to resources of the lake.
    pub bases: Bases,
    /// The containers that may be named; `None` means any valid name.
    pub containers: Option<BTreeSet<Container>>,
    /// The layouts that `_format` may name.
    pub layouts: BTreeMap<String, Layout>,
    /// The keys that `_encryptionKey` may name.
    pub keys: BTreeMap<String, JobKey>,
}

/// A valid request, and what is too long to be part of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resolved {
    /// The request.
    pub request: ExportRequest,
    /// `patient`: the ids that were named, sorted, each once. Where [`ExportRequest::patients`] is `None` none was named,
    /// and all that the level holds are exported.
    pub patients: Vec<String>,
    /// Whether the client would rather have what is not supported left out than be refused: `handling=lenient`.
    pub is_lenient: bool,
}

impl ExportRequest {
    /// Resolves what was asked into a valid request, or says which part of it is refused.
    ///
    /// * `reach`: what the visitor may do. Where `_type` is not given, the request is for what they may read; whatever else
    ///   goes beyond it is refused with 403.
    /// * `now`: a `_since` that lies ahead is refused.
    /// * With `Prefer: handling=lenient` what this server does not support is left out and told in
    ///   [`ExportRequest::ignored`]. What it cannot read is refused all the same, and so is what would lead to files that
    ///   the client cannot read, does not find or must not get: `_outputFormat`, `_container`, `_format`,
    ///   `_encryptionKey`, `_anonymizationConfig`.
    /// * Bulk Data Access [`headrace_fhir::IG_VERSION`], "Bulk Data Kick-off Request"; required headers as Azure API for
    ///   FHIR had them.
    pub fn resolve(asked: &Asked, policy: &Policy, reach: &Reach, now: Millis) -> Result<Resolved, Refusal> {
        require_accept(&asked.accept)?;
        let preferences = Preferences::read(&asked.prefer)?;
        require_id(&asked.level)?;
        let (version, level) = (policy.version, &asked.level);
        let mut handling = Handling { is_lenient: preferences.is_lenient, ..Handling::default() };
        let given = RawParameters::gather(&asked.parameters, &mut handling)?;
        single::check_output_format(&given)?;
        single::check_levers(&given)?;
        let types = lists::types(&given, (version, level), &mut handling)?;
        let type_filters = lists::type_filters(&given, (version, Instant::from_millis(now.0)), types.as_ref(), &mut handling)?;
        let associated = lists::associated(&given, level, !type_filters.is_empty(), &mut handling)?;
        let since = single::since(&given, now)?;
        let patients = patients::patients(&given, (level, &policy.bases), &mut handling)?;
        let request = Self {
            version,
            level: level.clone(),
            until: single::until(&given, since)?,
            elements: lists::elements(&given, version, &mut handling)?,
            patients: patients.as_ref().map(|ids| u32::try_from(ids.len()).unwrap_or(u32::MAX)),
            is_organized: single::is_organized(&given, &mut handling)?,
            allows_partial_manifests: single::flag(&given, Parameter::AllowPartialManifests)?,
            separates_status: preferences.separates_status,
            container: single::container(&given, policy)?,
            layout: single::layout(&given, policy)?,
            encryption_key: single::encryption_key(&given, policy)?,
            anonymization: single::anonymization(&given)?,
            types,
            since,
            type_filters,
            limits: Vec::new(),
            associated,
            ignored: handling.ignored,
        };
        request.check_deletions()?;
        let request = request.within(reach, now)?;
        Ok(Resolved { request, patients: patients.unwrap_or_default(), is_lenient: preferences.is_lenient })
    }

    /// Deletions are told by id, and a de-identified export tells no id.
    fn check_deletions(&self) -> Result<(), Refusal> {
        if self.anonymization.is_none() || !self.associated.contains(&Associated::Deleted) {
            return Ok(());
        }
        let text = "includeAssociatedData=_deleted cannot be de-identified: deletions are told by the ids of what was deleted";
        Err(Refusal::of(400, IssueCode::NotSupported, Parameter::IncludeAssociatedData.as_str(), text))
    }

    /// The kick-off's URL as the manifest shows it. That of a de-identified export is without the ids and the queries that a
    /// client has written into it.
    pub fn shown_url(&self, url: &str, base: &str) -> String {
        if self.anonymization.is_none() {
            return url.to_owned();
        }
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = match &self.level {
            Level::System | Level::AllPatients => path.to_owned(),
            Level::OnePatient(_) => format!("{base}/Patient/-/$export"),
            Level::Group(_) => format!("{base}/Group/-/$export"),
        };
        let is_shown = |pair: &&str| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            Parameter::named(name).is_some_and(|parameter| !matches!(parameter, Parameter::Patient | Parameter::TypeFilter))
        };
        let shown: Vec<&str> = query.split('&').filter(is_shown).collect();
        if shown.is_empty() { path } else { format!("{path}?{}", shown.join("&")) }
    }

    /// Whether the export tells what was deleted: asked for, or because it is about changes. A de-identified one never does.
    pub fn reports_deletions(&self) -> bool {
        self.anonymization.is_none() && (self.since.is_some() || self.associated.contains(&Associated::Deleted))
    }

    /// Every type that the export may hold: those asked for, and what `includeAssociatedData` adds.
    pub fn types_read(&self) -> BTreeSet<ResourceType> {
        let all = || ResourceType::all().filter(|kind| self.version.types().contains(*kind)).collect();
        let mut types = self.types.clone().unwrap_or_else(all);
        if self.associated.iter().any(|value| value.is_provenance()) {
            types.extend(ResourceType::named("Provenance"));
        }
        types
    }

    /// The limits of a type, each without its name and question mark.
    pub fn limits_of(&self, kind: ResourceType) -> impl Iterator<Item = &str> {
        self.limits.iter().filter_map(move |limit| limit.split_once('?').filter(|(name, _)| *name == kind.as_str()).map(|(_, query)| query))
    }

    /// `_type` as a filter.
    pub fn type_set(&self) -> Option<TypeSet> {
        self.types.as_ref().map(|types| types.iter().copied().collect())
    }
}

/// Whether the text can be a resource's id: 1 to 64 letters, digits, `-`, `.` and `_`. The underscore is not FHIR's, but
/// some servers use it; dots alone would lead out of a path.
pub fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && text.bytes().any(|byte| byte != b'.')
}

fn require_id(level: &Level) -> Result<(), Refusal> {
    let (kind, id) = match level {
        Level::System | Level::AllPatients => return Ok(()),
        Level::OnePatient(id) => ("Patient", id),
        Level::Group(id) => ("Group", id),
    };
    if is_id(id) {
        return Ok(());
    }
    let text = format!("no {kind} is named so: an id is 1 to 64 letters, digits, hyphens, dots and underscores");
    Err(Refusal::of(404, IssueCode::NotFound, &format!("{kind}/[id]/$export"), text))
}

#[cfg(test)]
mod tests;
