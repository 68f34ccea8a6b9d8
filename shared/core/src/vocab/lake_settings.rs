//! Settings that tell how to interpret the lake.

use headrace_fhir::semantics::reference::BaseUrls;

/// The number of versions of a resource in the lake, as declared by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LakeVersions {
    /// A single version of each resource, and no deletions of them. Lines are not compared with each other.
    One,
    /// Mostly one version. Selected lines are written at once, and the lake is read again if that was wrong.
    #[default]
    Auto,
    /// Many versions. The first read only records versions, and the second read writes lines.
    Many,
}

/// The interpretation of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LakeSettings {
    /// Number of versions of a resource.
    pub versions: LakeVersions,
    /// True if exports of patients and groups include the Practitioner, Organization, Location, Medication and Device
    /// resources to which exported ones refer.
    pub adds_referenced: bool,
    /// True if `_since` does not apply to patients who joined the group after it.
    pub adds_new_members: bool,
    /// Base URLs of absolute references to resources of the lake.
    pub bases: BaseUrls,
}
