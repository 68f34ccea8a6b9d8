//! Values of `includeAssociatedData`.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// A value of `includeAssociatedData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AssociatedData {
    /// The latest Provenance of each resource.
    LatestProvenanceResources,
    /// The complete Provenance of each resource.
    RelevantProvenanceResources,
    /// The complete history of each resource (Azure).
    History,
    /// Deleted resources, also without `_since` (Azure).
    Deleted,
}

impl AssociatedData {
    /// The list of values.
    pub const ALL: [Self; 4] = [Self::LatestProvenanceResources, Self::RelevantProvenanceResources, Self::History, Self::Deleted];

    /// Returns the value as a request spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LatestProvenanceResources => "LatestProvenanceResources",
            Self::RelevantProvenanceResources => "RelevantProvenanceResources",
            Self::History => "_history",
            Self::Deleted => "_deleted",
        }
    }

    /// Returns true if the value adds Provenance resources, even if `_type` does not list Provenance.
    pub(super) fn is_provenance(self) -> bool {
        match self {
            Self::LatestProvenanceResources | Self::RelevantProvenanceResources => true,
            Self::History | Self::Deleted => false,
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == text)
    }
}

stored_as_text!(AssociatedData, Self::parse, "not a value of includeAssociatedData");
