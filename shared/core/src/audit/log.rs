//! Audit records as log lines, for monitoring. The audit files are the evidence: a log line can be lost, a record cannot.

use super::record::{AuditOutcome, AuditRecord};
use crate::access::Actor;
use crate::vocab::outcome::IssueCode;

/// Log target of audit records. No other log line has it.
pub const LOG_TARGET: &str = "audit";

impl AuditRecord {
    /// Writes the record to the log, in addition to the store. Called after the record is stored.
    pub fn log(&self) {
        let rejected_status = match self.outcome {
            AuditOutcome::Succeeded => None,
            AuditOutcome::Rejected(status) => Some(status),
        };
        let export = self.export.as_ref();
        let configuration = export.and_then(|export| export.configuration.as_ref());
        tracing::info!(
            target: LOG_TARGET,
            action = self.action.as_str(),
            audit.id = self.id,
            rejected = rejected_status,
            issue = self.issue.map(IssueCode::as_str),
            who = self.agent.actor.as_str(),
            is_service = self.agent.actor == Actor::Service,
            address = self.agent.origin.address,
            request.id = self.agent.origin.request_id,
            schedule = self.agent.origin.schedule.as_ref().map(|schedule| schedule.as_str()),
            job.id = self.job.as_ref().map(|job| job.as_str()),
            owner = self.owner.as_ref().map(|owner| &*owner.0),
            file = self.file.map(tracing::field::display),
            size_bytes = self.size_bytes,
            requests = self.requests,
            group = self.group,
            level = export.map(|export| export.level.as_str()),
            types = export.map(|export| join_names(export.types.iter().map(|kind| kind.as_str()))),
            parameters = export.map(|export| join_names(export.parameters.iter().map(|parameter| parameter.as_str()))),
            container = export.and_then(|export| export.container.as_ref()).map(|container| container.as_str()),
            transaction_time = self.export_time.map(|time| time.transaction_time.instant()),
            watermark = self.export_time.map(|time| time.watermark.as_str()),
            configuration_sha256 = configuration.map(|configuration| configuration.digest.as_str()),
            accepted_remarks = configuration.map(|configuration| join_names(configuration.accepted_remarks.iter().map(String::as_str))),
            rejected_remarks = configuration.map(|configuration| join_names(configuration.rejected_remarks.iter().map(String::as_str))),
            "audit record"
        );
    }
}

/// Joins names with commas.
pub(super) fn join_names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(",")
}
