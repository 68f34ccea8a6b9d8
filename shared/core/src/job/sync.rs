//! Synchronizations: jobs that bring a lake up to date with a FHIR server.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use serde::{Deserialize, Serialize};

use crate::job::file::Fragment;
use crate::vocab::clock::Millis;

/// The request of a synchronization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// The base URL of the FHIR server, without a slash at its end.
    pub origin: String,
    /// The types to fetch. `None` means all types that can be searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<BTreeSet<ResourceType>>,
    /// The number of seconds before the start up to which everything is fetched. Later changes may not be visible to searches yet.
    pub lag_seconds: u64,
    /// The number of resources that a window should have at most.
    pub window_resources: u64,
    /// The number of resources to request for a page.
    pub page_size: u32,
    /// True if everything is fetched, including what the lake already has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_full: bool,
    /// True if the ids of the lake are compared with those of the server, where the server has no history that shows deletions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reconciles: bool,
    /// True if the server's totals are not used, because they are estimates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_totals: bool,
    /// The moment since which deletions are found even if the lake never had the resources. An increment of a lake that was filled for it
    /// reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions_since: Option<Millis>,
}

/// The work of the finalize task of a synchronization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeSync {
    /// The request.
    #[serde(flatten)]
    pub request: SyncRequest,
    /// The job that had moved the watermark of the lake when the synchronization began. `None` if none had: another pipeline fills the lake,
    /// or the lake had no watermark.
    #[serde(default, rename = "lakeJob", skip_serializing_if = "Option::is_none")]
    pub lake_job: Option<String>,
}

/// The work of a task that reads from the FHIR server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchTask {
    /// The type.
    pub resource_type: ResourceType,
    /// The part of the type's resources.
    pub scope: FetchScope,
    /// The number of resources to request for a page.
    pub page_size: u32,
    /// The number of resources after which a window without a count records what it has.
    pub window_resources: u64,
    /// True if the server's totals are not used. Then the operator also accepts that a limit of the server may not show itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_totals: bool,
}

/// The part of a type's resources that a task reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchScope {
    /// The resources that were last changed within a range of time.
    Window(TimeWindow),
    /// All resources, because the server cannot search by time.
    Everything {
        /// The moment up to which the synchronization fetches.
        to: Millis,
        /// True if the resources count from the beginning of time: the type is new, or everything is requested.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_first: bool,
    },
    /// The changes within a range of time, and the deletions, by the history of the type.
    History(HistoryWindow),
    /// The deletions, by a comparison of the ids of the lake with those of the server.
    Reconcile {
        /// The moment up to which the synchronization fetches.
        to: Millis,
    },
}

/// A range of time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWindow {
    /// The first moment. `None` is the beginning of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Millis>,
    /// The moment after the last one.
    pub to: Millis,
    /// True if the server counts the resources of windows.
    pub is_counted: bool,
}

/// The range of time in which the history of a type counts. It is read up to the present, because it shows what changed after the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryWindow {
    /// The first moment.
    pub since: Millis,
    /// The moment after the last one, up to which the synchronization fetches.
    pub to: Millis,
    /// The moment up to which the lake has the deletions of the type.
    pub known_up_to: Millis,
    /// True if an earlier history was read up to the watermark of the lake: the lake has all later deletions, too, except of resources whose
    /// events of the same time it did not decide.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_read: bool,
    /// True if versions from before `since` may be missing, too: the windows of the type begin at the beginning of time, or a history of it
    /// could not be read since they did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_first: bool,
}

/// A fragment that is published as an object of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The fragment.
    pub fragment: Fragment,
    /// The name of the object.
    pub object: String,
}

/// The result of a task that fetches: a line of a fragment of [`super::file::OutputKind::SyncRecords`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// The type.
    #[serde(rename = "type")]
    pub resource_type: ResourceType,
    /// True if the synchronization fetches the type, perhaps in other tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_covered: bool,
    /// The history that is read after all windows. `None` if the server has no history of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryWindow>,
    /// The moment up to which the lake has the deletions of the type before the synchronization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions_known_up_to: Option<Millis>,
    /// The moment of the oldest event that a history did not decide: deletions are known up to it. `None` if all are decided, or if the
    /// history could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided_from: Option<Millis>,
    /// The number of windows that are complete.
    #[serde(default)]
    pub windows: u64,
    /// The number of fetched resources.
    #[serde(default)]
    pub resources: u64,
    /// The number of repeated windows.
    #[serde(default)]
    pub repeats: u64,
    /// The number of resources that the server sent twice.
    #[serde(default)]
    pub duplicates: u64,
    /// The number of deletions. `None` if they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u64>,
    /// True if the deletions were found by a comparison of ids, not by a history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reconciled: bool,
    /// True if the whole type was fetched, because the server cannot search by time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_whole: bool,
    /// The number of fetched resources that changed at or before the watermark that the lake had.
    #[serde(default)]
    pub late_changes: u64,
    /// The number of deletions at or before the watermark that the lake had.
    #[serde(default)]
    pub late_deletions: u64,
    /// The number of resources at which the server caps a search, if it has shown itself. Another attempt at the task need not find it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
    /// The moment up to which the lake has the type, if it keeps its resources and the synchronization goes on without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<String>,
    /// The reason why something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// A remark about what the synchronization could not determine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// The first warning that the server sent with the resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl SyncRecord {
    /// Creates the record of a type without any window.
    pub fn new(resource_type: ResourceType) -> Self {
        Self {
            resource_type,
            is_covered: false,
            history: None,
            deletions_known_up_to: None,
            undecided_from: None,
            windows: 0,
            resources: 0,
            repeats: 0,
            duplicates: 0,
            deletions: None,
            is_reconciled: false,
            is_whole: false,
            late_changes: 0,
            late_deletions: 0,
            cap: None,
            left_at: None,
            fault: None,
            remark: None,
            warning: None,
        }
    }
}
