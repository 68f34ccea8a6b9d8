//! The parameters of a kick-off.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// A parameter of a kick-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Parameter {
    /// The resource types to export.
    Type,
    /// Queries that exported resources must match.
    TypeFilter,
    /// The elements to export.
    Elements,
    /// The time after which exported resources were changed.
    Since,
    /// The time before which exported resources were changed.
    Until,
    /// Azure's name of [`Parameter::Until`]. Azure includes the given time. Here both names exclude it, as in the standard.
    Till,
    /// The patients to export.
    Patient,
    /// Provenance, history and deletions to export in addition.
    IncludeAssociatedData,
    /// The organization of files by instance instead of by type.
    OrganizeOutputBy,
    /// The permission to split the manifest into pages.
    AllowPartialManifests,
    /// The format of the files.
    OutputFormat,
    /// The container inside the destination (Azure).
    Container,
    /// The folder layout, one of the operator's (Azure).
    Format,
    /// The key that encrypts the files, one of the operator's (specific to this server).
    EncryptionKey,
    /// The configuration that de-identifies resources (Azure).
    AnonymizationConfig,
    /// The entity tag that the configuration must have (Azure).
    AnonymizationConfigEtag,
    /// The number of resources per database query in Azure. Accepted without effect.
    MaxCount,
    /// The parallel processing of the export in Azure. Accepted without effect, because processing is always parallel.
    IsParallel,
    /// The request for an estimate instead of an export (specific to this server).
    Estimate,
}

impl Parameter {
    /// The list of parameters.
    pub const ALL: [Self; 19] = [
        Self::Type,
        Self::TypeFilter,
        Self::Elements,
        Self::Since,
        Self::Until,
        Self::Till,
        Self::Patient,
        Self::IncludeAssociatedData,
        Self::OrganizeOutputBy,
        Self::AllowPartialManifests,
        Self::OutputFormat,
        Self::Container,
        Self::Format,
        Self::EncryptionKey,
        Self::AnonymizationConfig,
        Self::AnonymizationConfigEtag,
        Self::MaxCount,
        Self::IsParallel,
        Self::Estimate,
    ];

    /// Returns the name as a request spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "_type",
            Self::TypeFilter => "_typeFilter",
            Self::Elements => "_elements",
            Self::Since => "_since",
            Self::Until => "_until",
            Self::Till => "_till",
            Self::Patient => "patient",
            Self::IncludeAssociatedData => "includeAssociatedData",
            Self::OrganizeOutputBy => "organizeOutputBy",
            Self::AllowPartialManifests => "allowPartialManifests",
            Self::OutputFormat => "_outputFormat",
            Self::Container => "_container",
            Self::Format => "_format",
            Self::EncryptionKey => "_encryptionKey",
            Self::AnonymizationConfig => "_anonymizationConfig",
            Self::AnonymizationConfigEtag => "_anonymizationConfigEtag",
            Self::MaxCount => "_maxCount",
            Self::IsParallel => "_isParallel",
            Self::Estimate => "_estimate",
        }
    }

    /// Parses the output of [`Self::as_str`], and Azure's spelling `_typefilter`. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let name = if text == "_typefilter" { Self::TypeFilter.as_str() } else { text };
        Self::ALL.into_iter().find(|parameter| parameter.as_str() == name)
    }

    /// Returns the parameter that an unknown name probably means: one that differs in case, underscores, hyphens or a plural.
    pub fn guess(name: &str) -> Option<Self> {
        let reduce = |name: &str| name.trim().replace(['_', '-'], "").to_ascii_lowercase().trim_end_matches('s').to_owned();
        let reduced = reduce(name);
        Self::ALL.into_iter().find(|parameter| reduce(parameter.as_str()) == reduced)
    }

    /// Returns true if the parameter may be repeated.
    pub fn is_repeatable(self) -> bool {
        match self {
            Self::Type | Self::TypeFilter | Self::Elements | Self::Patient | Self::IncludeAssociatedData => true,
            Self::Since
            | Self::Until
            | Self::Till
            | Self::OrganizeOutputBy
            | Self::AllowPartialManifests
            | Self::OutputFormat
            | Self::Container
            | Self::Format
            | Self::EncryptionKey
            | Self::AnonymizationConfig
            | Self::AnonymizationConfigEtag
            | Self::MaxCount
            | Self::IsParallel
            | Self::Estimate => false,
        }
    }
}

stored_as_text!(Parameter, Self::parse, "not a parameter of a kick-off");
