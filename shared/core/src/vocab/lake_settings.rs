//! Settings that tell how to interpret the lake.

use std::time::Duration;

use headrace_fhir::semantics::reference::BaseUrls;

use crate::vocab::iso_duration::parse_iso_duration;

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

/// The moment up to which the lake is complete, as declared by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LakeWatermark {
    /// The watermark object of the lake, if it has one. Otherwise the current time, although nobody has promised it.
    #[default]
    Auto,
    /// The current time: the system of record writes the lake itself.
    Now,
    /// The current time minus this delay: the ingestion pipeline is never later.
    Lag(Duration),
    /// The watermark object of the lake, which must exist.
    Object,
    /// The current time. Resources that arrive later than they changed are exported by the arrival of their object.
    Arrival,
}

impl LakeWatermark {
    /// The longest delay. A longer one is a mistake: exports would contain nothing of the last year, or nothing at all.
    pub const MAX_LAG: Duration = Duration::from_secs(366 * 86_400);

    /// Parses the setting: `auto`, `now`, `object`, `arrival`, or a delay as an ISO 8601 duration such as `PT15M`. Returns `None` for
    /// any other text, and for a delay above [`Self::MAX_LAG`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "now" => Some(Self::Now),
            "object" => Some(Self::Object),
            "arrival" => Some(Self::Arrival),
            _ => parse_iso_duration(text).filter(|lag| *lag <= Self::MAX_LAG).map(Self::Lag),
        }
    }
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
    /// The moment up to which the lake is complete.
    pub watermark: LakeWatermark,
}
