use headrace_fhir::ResourceType;

use super::*;
use crate::clock::Millis;
use crate::ids::{Caller, JobId};
use crate::job::Planned;
use crate::task::TASK;

/// The transaction time is 2026-02-01.
fn selection_with(request: ExportRequest, terms: &WorkTerms) -> Selection {
    let planned = Planned { transaction_time: Millis(1_769_904_000_000), ..Planned::default() };
    let job = Job { planned: Some(planned), ..Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, Millis(0)) };
    Selection::of(&job, terms, None).unwrap()
}
