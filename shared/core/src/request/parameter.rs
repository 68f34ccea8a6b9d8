//! The parameters of a kick-off by name.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// A parameter that a kick-off can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Parameter {
    /// Only these resource types.
    Type,
    /// Only resources that match these queries.
    TypeFilter,
    /// Only these elements.
    Elements,
    /// Only what was changed later.
    Since,
    /// Only what was changed earlier.
    Until,
    /// Azure's name of [`Parameter::Until`]. Azure includes the moment itself; here both names mean what the standard says.
    Till,
    /// Only these patients.
    Patient,
    /// What comes along with the resources.
    IncludeAssociatedData,
    /// Blocks of one instance instead of files of one type.
    OrganizeOutputBy,
    /// Whether the manifest may come in pages.
    AllowPartialManifests,
    /// The files' format.
    OutputFormat,
    /// The caller's place inside the destination (Azure).
    Container,
    /// Which of the operator's layouts (Azure).
    Format,
    /// Which of the operator's keys the files are encrypted under (our own).
    EncryptionKey,
    /// By which configuration resources are de-identified (Azure).
    AnonymizationConfig,
    /// In which state that configuration is meant (Azure).
    AnonymizationConfigEtag,
    /// Resources per query of Azure's database: accepted without effect.
    MaxCount,
    /// Whether Azure cuts the export into pieces: accepted without effect, it always is.
    IsParallel,
}

impl Parameter {
    /// Every parameter.
    pub const ALL: [Self; 18] = [
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
    ];

    /// As a request spells it.
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
        }
    }

    /// The parameter of this exact name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|parameter| parameter.as_str() == name)
    }

    /// Whether it may be given more than once.
    pub fn repeats(self) -> bool {
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
            | Self::IsParallel => false,
        }
    }
}

stored_as_text!(Parameter, Self::named, "not a parameter of a kick-off");
