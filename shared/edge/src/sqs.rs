//! SQS messages: each is parsed by itself, so that an invalid one does not fail its neighbours.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse};
use headrace_core::flow::work::task_end::TaskEnd;
use headrace_core::job::ExportError;
use headrace_core::vocab::ids::TaskId;

/// The outcome of handling a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// The message is done: SQS deletes it.
    Acknowledge,
    /// SQS delivers the message again.
    Redeliver,
}

/// Parses the task id in the body of a message. `None` if the body is invalid.
pub fn parse_task_id(body: &str) -> Option<TaskId> {
    serde_json::from_str(body).ok()
}

/// Returns the outcome of a message from the end of its attempt. An attempt that changed nothing is acknowledged as well
/// (rule P2).
pub fn message_outcome(end: &Result<TaskEnd, ExportError>) -> MessageOutcome {
    match end {
        Ok(
            TaskEnd::Completed(..)
            | TaskEnd::Yielded(_)
            | TaskEnd::Unavailable
            | TaskEnd::Obsolete
            | TaskEnd::Retried(_)
            | TaskEnd::Paused(_)
            | TaskEnd::JobFailed(_),
        ) => MessageOutcome::Acknowledge,
        // Nothing was recorded, not even the failure.
        Err(_) => MessageOutcome::Redeliver,
    }
}

/// Creates the response that makes SQS deliver the messages of these ids again.
pub fn redelivery_response(ids: Vec<String>) -> SqsBatchResponse {
    let failure = |id| {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        failure
    };
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = ids.into_iter().map(failure).collect();
    response
}
