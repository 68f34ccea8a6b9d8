//! The result of the plan task.

use serde::{Deserialize, Serialize};

use super::file::Fragment;
use super::{ExportTime, OmittedSubjects};

/// The strategy of the first reading of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// Exports the selected lines. No other line can change the verdict on a line.
    #[default]
    SinglePass,
    /// Exports the selected lines and records versions and links. If these show that a verdict was wrong, the lake is read
    /// again.
    Optimistic,
    /// Records versions and links but exports nothing, because the lake must be read again in any case.
    TwoPass,
}

/// The result of the plan task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The time of the export (rule P3).
    #[serde(flatten)]
    pub time: ExportTime,
    /// The number of tasks that read the lake.
    pub tasks: u32,
    /// The number of bytes of the lake to read, as stored.
    pub source_bytes: u64,
    /// The strategy of the first reading.
    #[serde(default)]
    pub read_mode: ReadMode,
    /// The file with the ids of the exported patients. `None` if the export is not restricted to certain patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_set: Option<Fragment>,
    /// The requested patients and members that are left out.
    #[serde(default, skip_serializing_if = "OmittedSubjects::is_empty")]
    pub omitted: OmittedSubjects,
    /// The number of patients that the requested group names. Those that the lake does not have are reported at the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub group_patients: u64,
}

/// Returns true for 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
