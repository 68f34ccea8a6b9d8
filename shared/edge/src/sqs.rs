//! The SQS envelope: raw records, each decoded by itself, so that one bad body does not fail its neighbours.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsMessage};
use headrace_core::flow::work::run_task::TaskEnd;
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::ids::TaskId;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with, one way or the other.
    Ack,
    /// Deliver it again.
    Retry,
    /// Put it aside: nobody can read it.
    Park,
}

/// Reads the task that a message names.
pub fn task(message: &SqsMessage) -> Result<TaskId, Verdict> {
    let body = message.body.as_deref().unwrap_or_default();
    serde_json::from_str(body).map_err(|_| Verdict::Park)
}

/// The verdict on an attempt. Rule P2: what changed nothing is acknowledged all the same.
pub fn verdict(end: &Result<TaskEnd, ExportError>) -> Verdict {
    match end {
        Ok(TaskEnd::Closed(..) | TaskEnd::Yielded(_) | TaskEnd::NotNow | TaskEnd::Gone | TaskEnd::Retried(_) | TaskEnd::Failed(_)) => {
            Verdict::Ack
        }
        // Not even the fault could be recorded.
        Err(_) => Verdict::Retry,
    }
}

/// The messages that SQS is to deliver again, by their ids.
pub fn failures(ids: Vec<String>) -> SqsBatchResponse {
    let failure = |id| {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        failure
    };
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = ids.into_iter().map(failure).collect();
    response
}
