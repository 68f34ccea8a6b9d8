//! A record as a line of the log, for those who watch logs. The files are the evidence: a line can be lost, a record cannot.

use super::{AuditEntry, Verdict};
use crate::access::Who;

/// The target that all of these lines have, and nothing else.
pub const LOG_TARGET: &str = "audit";

impl AuditEntry {
    /// Tells of the record in the log, once it is made.
    pub fn tell(&self) {
        let status = match self.verdict {
            Verdict::Done => None,
            Verdict::Refused(status) => Some(status),
        };
        let order = self.order.as_ref();
        tracing::info!(
            target: LOG_TARGET,
            deed = self.deed.as_str(),
            audit.id = self.id,
            refused = status,
            issue = self.issue.map(super::IssueCode::as_str),
            who = self.agent.who.as_str(),
            is_service = self.agent.who == Who::Service,
            address = self.agent.origin.address,
            request.id = self.agent.origin.request_id,
            job.id = self.job.as_ref().map(|job| job.as_str()),
            owner = self.owner.as_ref().map(|owner| &*owner.0),
            file = self.file.map(tracing::field::display),
            size_bytes = self.size_bytes,
            group = self.group,
            level = order.map(|order| order.level.as_str()),
            types = order.map(|order| listed(order.types.iter().map(|kind| kind.as_str()))),
            parameters = order.map(|order| listed(order.parameters.iter().map(|parameter| parameter.as_str()))),
            container = order.and_then(|order| order.container.as_ref()).map(|container| container.as_str()),
            "recorded for auditors"
        );
    }
}

/// Names with commas between them.
pub(super) fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(",")
}
