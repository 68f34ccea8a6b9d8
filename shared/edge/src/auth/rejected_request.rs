//! Describes a rejected request in its audit record, without patient data.

use std::collections::BTreeSet;

use headrace_core::audit::{AuditAction, AuditRecord, ConfigurationSummary, ExportSummary};
use headrace_core::job::ExportError;
use headrace_core::request::is_resource_id;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::{Request, RequestExt as _};

use crate::request;

/// Fills the audit record of a rejected request. The job and file ids that a client asks for reveal attempts to find the
/// exports of others.
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
                record.group = match path.level {
                    Level::Group(id) => Some(id).filter(|id| is_resource_id(id)),
                    Level::System | Level::AllPatients | Level::OnePatient(_) => None,
                };
            }
        }
        AuditAction::Groups => {
            let id = request.path_parameters_ref().and_then(|parameters| parameters.first("id")).map(str::to_owned);
            record.group = id.filter(|id| is_resource_id(id));
        }
        AuditAction::Poll | AuditAction::Cancel => record.job = request::job_id(request).ok(),
        AuditAction::Download => {
            record.job = request::job_id(request).ok();
            record.file = request::output_file_name(request).ok();
        }
        AuditAction::Token
        | AuditAction::Estimate
        | AuditAction::List
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
