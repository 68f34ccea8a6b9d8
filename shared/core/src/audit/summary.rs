//! The parts of a kick-off request that auditors may see: names of parameters, and no value that could identify a patient.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use serde::{Deserialize, Serialize};

use crate::request::{ExportRequest, Parameter, ResolvedConfiguration, is_resource_id};
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::container::Container;
use crate::vocab::level::Level;
use crate::vocab::text::stored_as_text;

/// Summary of a requested export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSummary {
    /// Level of the export.
    pub level: SummaryLevel,
    /// Requested resource types. Empty means all types that the caller may read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub types: BTreeSet<ResourceType>,
    /// Parameters of the request, without their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parameters: BTreeSet<Parameter>,
    /// The caller's container within the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The anonymization configuration, if the export is de-identified and the configuration was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationSummary>,
}

/// The anonymization configuration of an export, or of a rejected request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationSummary {
    /// The digest of the file.
    pub digest: ConfigDigest,
    /// The names of the remarks that the operator has accepted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted_remarks: BTreeSet<String>,
    /// The names of the remarks for which the request was rejected.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rejected_remarks: BTreeSet<String>,
}

impl From<&ResolvedConfiguration> for ConfigurationSummary {
    fn from(resolved: &ResolvedConfiguration) -> Self {
        let ResolvedConfiguration { digest, content: _, accepted_remarks, reports_deletions: _ } = resolved;
        Self { digest: digest.clone(), accepted_remarks: accepted_remarks.clone(), rejected_remarks: BTreeSet::new() }
    }
}

/// The level of an export without the id of its patient or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SummaryLevel {
    /// System-level export.
    System,
    /// Export of all patients.
    AllPatients,
    /// Export of one patient.
    OnePatient,
    /// Export of a Group.
    Group,
}

impl SummaryLevel {
    /// The list of all levels.
    pub const ALL: [Self; 4] = [Self::System, Self::AllPatients, Self::OnePatient, Self::Group];

    /// Returns the code of the level, as stored and as shown in AuditEvents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::AllPatients => "patients",
            Self::OnePatient => "patient",
            Self::Group => "group",
        }
    }

    /// Parses the stored code of a level. Returns `None` for an unknown code.
    fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == code)
    }
}

stored_as_text!(SummaryLevel, Self::parse, "not an export level");

impl From<&Level> for SummaryLevel {
    fn from(level: &Level) -> Self {
        match level {
            Level::System => Self::System,
            Level::AllPatients => Self::AllPatients,
            Level::OnePatient(_) => Self::OnePatient,
            Level::Group(_) => Self::Group,
        }
    }
}

/// Returns the id of the Group that a level names. Returns `None` for text that is not a FHIR id: it could hold anything
/// that the client typed, so it is not recorded.
pub(super) fn valid_group_id(level: &Level) -> Option<String> {
    match level {
        Level::Group(id) => Some(id.clone()).filter(|id| is_resource_id(id)),
        Level::System | Level::AllPatients | Level::OnePatient(_) => None,
    }
}

impl ExportSummary {
    /// Summarizes an accepted request. Its types are those of `_type`, or those that the credential permits.
    pub fn from_request(request: &ExportRequest) -> Self {
        // The pattern names every field, so that each new field of a request needs a decision here: visible to auditors or not.
        let ExportRequest {
            version: _,
            level,
            types,
            since,
            until,
            type_filters,
            scope_queries: _,
            elements,
            patients,
            associated_data,
            is_organized_by_patient,
            allows_partial_manifests,
            separates_status: _,
            container,
            layout,
            encryption_key,
            anonymization,
            ignored: _,
        } = request;
        let parameters = [
            (Parameter::TypeFilter, !type_filters.is_empty()),
            (Parameter::Elements, !elements.is_empty()),
            (Parameter::Since, since.is_some()),
            (Parameter::Until, until.is_some()),
            (Parameter::Patient, patients.is_some()),
            (Parameter::IncludeAssociatedData, !associated_data.is_empty()),
            (Parameter::OrganizeOutputBy, *is_organized_by_patient),
            (Parameter::AllowPartialManifests, *allows_partial_manifests),
            (Parameter::Container, container.is_some()),
            (Parameter::Format, layout.is_some()),
            (Parameter::EncryptionKey, encryption_key.is_some()),
            (Parameter::AnonymizationConfig, anonymization.is_some()),
            (Parameter::AnonymizationConfigEtag, anonymization.as_ref().is_some_and(|requested| requested.etag.is_some())),
        ];
        Self {
            level: level.into(),
            types: types.clone().unwrap_or_default(),
            parameters: parameters.into_iter().filter(|(_, is_present)| *is_present).map(|(parameter, _)| parameter).collect(),
            container: container.clone(),
            configuration: anonymization.as_ref().and_then(|requested| requested.resolved.as_ref()).map(Into::into),
        }
    }

    /// Summarizes a rejected request. It is untrusted input, so only known parameters and types are kept.
    pub fn from_rejected(level: &Level, parameters: &[(String, String)]) -> Self {
        let known = || parameters.iter().filter_map(|(name, value)| Some((Parameter::parse(name)?, value)));
        let types = known().filter(|(parameter, _)| *parameter == Parameter::Type);
        Self {
            level: level.into(),
            types: types.flat_map(|(_, value)| value.split(',')).filter_map(ResourceType::parse).collect(),
            parameters: known().map(|(parameter, _)| parameter).collect(),
            container: None,
            configuration: None,
        }
    }
}
