//! Describes a rejected request in its audit record, without text of its sender.

use std::collections::BTreeSet;

use headrace_core::audit::{AuditAction, AuditRecord, ConfigurationSummary, ExportSummary};
use headrace_core::job::ExportError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::Request;

use crate::request;

/// Fills the audit record of a rejected request. The ids of exports and the names of files that a client asks for reveal attempts to find the
/// exports of others, and their form has no place for a text. The id of a group or patient could be any text, so it is not recorded.
pub(super) fn describe_rejected_request(record: &mut AuditRecord, request: &Request, error: &ExportError) {
    record.issue = Some(issue_code(error));
    match record.action {
        AuditAction::KickOff => {
            if let Ok(path) = request::parse_kick_off_path(request) {
                let parameters = request::parameters(request).unwrap_or_default();
                record.export = Some(ExportSummary {
                    configuration: rejected_configuration(error),
                    ..ExportSummary::from_rejected(&path.level, &parameters)
                });
            }
        }
        AuditAction::Poll | AuditAction::Cancel => record.job = request::job_id(request).ok(),
        AuditAction::Download => {
            record.job = request::job_id(request).ok();
            record.file = request::output_file_name(request).ok();
        }
        AuditAction::Token
        | AuditAction::Estimate
        | AuditAction::List
        | AuditAction::Groups
        | AuditAction::Start
        | AuditAction::Complete
        | AuditAction::Fail
        | AuditAction::Expire => {}
    }
}

/// Returns the anonymization configuration that was rejected because of remarks about it, if this is the error.
fn rejected_configuration(error: &ExportError) -> Option<ConfigurationSummary> {
    match error {
        ExportError::Remarked(remarked) => Some(ConfigurationSummary {
            digest: remarked.digest.clone(),
            accepted_remarks: BTreeSet::new(),
            rejected_remarks: remarked.remarks.clone(),
        }),
        ExportError::Rejected(_)
        | ExportError::QuotaReached(_)
        | ExportError::NotFound(_)
        | ExportError::NotDeidentified(_)
        | ExportError::Store(_)
        | ExportError::Source(_) => None,
    }
}

/// Returns the issue code of the response's OperationOutcome.
fn issue_code(error: &ExportError) -> IssueCode {
    match error {
        ExportError::Rejected(error) => error.code,
        ExportError::Remarked(_) => IssueCode::Invalid,
        ExportError::QuotaReached(_) => IssueCode::Throttled,
        ExportError::NotFound(_) => IssueCode::NotFound,
        ExportError::NotDeidentified(_) => IssueCode::Processing,
        ExportError::Store(_) | ExportError::Source(_) => IssueCode::Exception,
    }
}
