//! The part of a type's resources that a task fetches: its range of time, and what is known after it.

use crate::job::sync::{FetchScope, FetchTask, TimeWindow};
use crate::job::task::Lease;
use crate::vocab::clock::Millis;

impl FetchTask {
    /// Returns the range of time that is left to read at the lease's cursor.
    pub(super) fn range(&self, lease: &Lease) -> (Option<Millis>, Option<Millis>) {
        let cursor = (lease.cursor.item > 0).then_some(Millis(lease.cursor.offset));
        match self.scope {
            FetchScope::Window(window) => (cursor.or(window.from), Some(window.to)),
            FetchScope::History(_) | FetchScope::Everything { .. } | FetchScope::Reconcile { .. } => (None, None),
        }
    }

    /// Describes what the task reads, for its report.
    pub(super) fn shown_scope(&self, lease: &Lease) -> String {
        match self.range(lease) {
            (Some(from), Some(to)) => format!("the window from {from} to {to}"),
            (None, Some(to)) => format!("the window up to {to}"),
            (_, None) => "all resources of the type".to_owned(),
        }
    }

    /// Returns what is not known after the task.
    pub(super) fn remark(&self) -> Option<&'static str> {
        match self.scope {
            FetchScope::Everything { .. } => Some(
                "the server cannot search by _lastUpdated, so each synchronization fetches the whole type; changes while it runs may be \
                 missing until the next one",
            ),
            FetchScope::Window(TimeWindow { is_counted: false, .. }) => Some(
                "the server does not count its resources, or its totals are ignored; what was fetched was verified by a second reading of ids",
            ),
            FetchScope::Window(_) | FetchScope::History(_) | FetchScope::Reconcile { .. } => None,
        }
    }

    /// Returns true if resources from before the watermark can be new in the lake.
    pub(super) fn may_be_late(&self) -> bool {
        match self.scope {
            FetchScope::Window(_) => true,
            FetchScope::Everything { is_first, .. } => is_first,
            FetchScope::History(_) | FetchScope::Reconcile { .. } => false,
        }
    }

    /// Returns true if the server counts the resources of windows.
    pub(super) fn is_counted(&self) -> bool {
        match self.scope {
            FetchScope::Window(window) => window.is_counted,
            FetchScope::History(_) | FetchScope::Everything { .. } | FetchScope::Reconcile { .. } => false,
        }
    }
}
