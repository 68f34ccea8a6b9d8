//! The anonymization configuration that a request names.

use serde::{Deserialize, Serialize};

use super::ResolvedConfiguration;
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::config_name::ConfigName;

/// The maximum size of a configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The anonymization configuration of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymizationConfig {
    /// The name (`_anonymizationConfig`).
    pub name: ConfigName,
    /// The entity tag that the file must have, in quotes (`_anonymizationConfigEtag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The results of the kick-off's check of the file. `None` before it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedConfiguration>,
}

impl AnonymizationConfig {
    /// Creates the configuration of a request, not read yet.
    pub fn new(name: ConfigName, etag: Option<String>) -> Self {
        Self { name, etag, resolved: None }
    }

    /// Returns the digest of the file and its keys, as they were at the kick-off.
    pub fn content(&self) -> Option<&ConfigDigest> {
        self.resolved.as_ref()?.content.as_ref()
    }

    /// Adds the results of the checks at the kick-off.
    #[must_use]
    pub fn with_resolved(self, resolved: ResolvedConfiguration) -> Self {
        Self { resolved: Some(resolved), ..self }
    }
}
