//! What a refused request was about, as far as records may tell: names of ours, and none of a patient.

use headrace_core::audit::{AuditEntry, Deed, Order};
use headrace_core::request::{Level, is_id};
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::{Request, RequestExt as _};

use crate::request;

/// Adds it to the record of the refusal: who probes for the exports of others shows by the exports that they ask for.
pub(super) fn tell_what_was_tried(entry: &mut AuditEntry, request: &Request, error: &ExportError) {
    entry.issue = Some(issue(error));
    match entry.deed {
        Deed::KickOff => {
            if let Ok(path) = request::kick_off_path(request) {
                let parameters = request::asked(request, path.level.clone()).map(|asked| asked.parameters).unwrap_or_default();
                entry.order = Some(Order::tried(&path.level, &parameters));
                entry.group = match path.level {
                    Level::Group(id) => Some(id).filter(|id| is_id(id)),
                    Level::System | Level::AllPatients | Level::OnePatient(_) => None,
                };
            }
        }
        Deed::Groups => {
            let id = request.path_parameters_ref().and_then(|named| named.first("id")).map(str::to_owned);
            entry.group = id.filter(|id| is_id(id));
        }
        Deed::Poll | Deed::Cancel => entry.job = request::job_id(request).ok(),
        Deed::HandOut => {
            entry.job = request::job_id(request).ok();
            entry.file = request::part_name(request).ok();
        }
        Deed::Token | Deed::List | Deed::Begin | Deed::Complete | Deed::Fail | Deed::Expire => {}
    }
}

/// The code of the answer's OperationOutcome.
fn issue(error: &ExportError) -> IssueCode {
    match error {
        ExportError::Refused(refusal) => refusal.code,
        ExportError::TooMany(_) => IssueCode::Throttled,
        ExportError::NotFound(_) => IssueCode::NotFound,
        ExportError::NotDeidentified(_) => IssueCode::Processing,
        ExportError::Store(_) | ExportError::Source(_) => IssueCode::Exception,
    }
}
