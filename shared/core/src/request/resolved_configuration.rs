//! The results of the checks of an anonymization configuration at the kick-off.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::vocab::config_digest::ConfigDigest;

/// The configuration of a job, as it was checked at the kick-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedConfiguration {
    /// The digest of the file.
    pub digest: ConfigDigest,
    /// The digest of the file and its keys: exports with the same one de-identify alike. `None` for a job of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ConfigDigest>,
    /// The names of the remarks that the operator has accepted, as far as the configuration has them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted_remarks: BTreeSet<String>,
    /// True if deletions can be reported: the ids of at least one exported type are hashed with a lasting key.
    #[serde(default)]
    pub reports_deletions: bool,
}
