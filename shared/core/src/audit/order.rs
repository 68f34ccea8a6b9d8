//! What an export was asked for, as far as an auditor may know: names, and never a value that could be a patient's.

use std::collections::BTreeSet;

use headrace_fhir::ResourceType;
use serde::{Deserialize, Serialize};

use crate::request::{Container, ExportRequest, Level, Parameter, is_id};
use crate::vocab::text::stored_as_text;

/// What an export was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose data.
    pub level: OrderLevel,
    /// The types of resources; none means every type that the caller may read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub types: BTreeSet<ResourceType>,
    /// The parameters that were given, without their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parameters: BTreeSet<Parameter>,
    /// The caller's named place inside the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// Whose data an export is about. A patient is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OrderLevel {
    /// Everything.
    System,
    /// All patients.
    Patients,
    /// One patient.
    Patient,
    /// A group.
    Group,
}

impl OrderLevel {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::System, Self::Patients, Self::Patient, Self::Group];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Patients => "patients",
            Self::Patient => "patient",
            Self::Group => "group",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

stored_as_text!(OrderLevel, Self::named, "not a level");

impl From<&Level> for OrderLevel {
    fn from(level: &Level) -> Self {
        match level {
            Level::System => Self::System,
            Level::AllPatients => Self::Patients,
            Level::OnePatient(_) => Self::Patient,
            Level::Group(_) => Self::Group,
        }
    }
}

/// The group that a level names. What cannot be an id is the client's own words, and is not kept.
pub(super) fn group(level: &Level) -> Option<String> {
    match level {
        Level::Group(id) => Some(id.clone()).filter(|id| is_id(id)),
        Level::System | Level::AllPatients | Level::OnePatient(_) => None,
    }
}

impl Order {
    /// Of a request that was accepted. Its types say whether `_type` was given, or what the credential allows.
    pub fn of(request: &ExportRequest) -> Self {
        // Whatever a request comes to hold, whether auditors should know of it is decided here.
        let ExportRequest {
            version: _,
            level,
            types,
            since,
            until,
            type_filters,
            limits: _,
            elements,
            patients,
            associated,
            is_organized,
            allows_partial_manifests,
            separates_status: _,
            container,
            layout,
            encryption_key,
            anonymization,
            ignored: _,
        } = request;
        let given = [
            (Parameter::TypeFilter, !type_filters.is_empty()),
            (Parameter::Elements, !elements.is_empty()),
            (Parameter::Since, since.is_some()),
            (Parameter::Until, until.is_some()),
            (Parameter::Patient, patients.is_some()),
            (Parameter::IncludeAssociatedData, !associated.is_empty()),
            (Parameter::OrganizeOutputBy, *is_organized),
            (Parameter::AllowPartialManifests, *allows_partial_manifests),
            (Parameter::Container, container.is_some()),
            (Parameter::Format, layout.is_some()),
            (Parameter::EncryptionKey, encryption_key.is_some()),
            (Parameter::AnonymizationConfig, anonymization.is_some()),
            (Parameter::AnonymizationConfigEtag, anonymization.as_ref().is_some_and(|asked| asked.etag.is_some())),
        ];
        Self {
            level: level.into(),
            types: types.clone().unwrap_or_default(),
            parameters: given.into_iter().filter(|(_, is_given)| *is_given).map(|(parameter, _)| parameter).collect(),
            container: container.clone(),
        }
    }

    /// Of a request that was refused: nothing of it is believed, and only what is known by name is kept.
    pub fn tried(level: &Level, parameters: &[(String, String)]) -> Self {
        let known = || parameters.iter().filter_map(|(name, value)| Some((Parameter::named(name)?, value)));
        let types = known().filter(|(parameter, _)| *parameter == Parameter::Type);
        Self {
            level: level.into(),
            types: types.flat_map(|(_, value)| value.split(',')).filter_map(ResourceType::named).collect(),
            parameters: known().map(|(parameter, _)| parameter).collect(),
            container: known().find(|(parameter, _)| *parameter == Parameter::Container).and_then(|(_, name)| Container::parse(name)),
        }
    }
}
