//! What may be read (SMART App Launch, "Scopes and Launch Context", as far as it concerns `system/` scopes).

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::ResourceType;
use serde::{Deserialize, Serialize};

use crate::request::ExportRequest;

/// What may be read. The default is everything: where there is no access control.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scopes {
    /// Every resource.
    #[default]
    Everything,
    /// Resources of these types: all of a type, or, where there are queries, those that match one of them.
    Only(BTreeMap<ResourceType, BTreeSet<String>>),
}

impl Scopes {
    /// Whether everything that a request asks for may be read.
    pub fn cover(&self, request: &ExportRequest) -> bool {
        match (self, &request.types) {
            (Self::Everything, _) => true,
            (Self::Only(_), None) => false,
            (Self::Only(_), Some(types)) => types.iter().all(|kind| self.allow(*kind)),
        }
    }

    /// Whether resources of this type may be read, all or some.
    pub fn allow(&self, kind: ResourceType) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(types) => types.contains_key(&kind),
        }
    }
}
