//! Errors of the table, as DynamoDB reports them.

use serde_json::{Value, json};

/// An error of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TableError {
    /// The condition of a single write does not hold.
    ConditionFailed,
    /// A transaction was cancelled, for a reason of each of its items.
    Cancelled(Vec<Reason>),
    /// A transaction is using the item.
    Conflict,
    /// The partition key has no capacity left.
    Throttled,
    /// The request is malformed, or of a form that the model does not know.
    Invalid(String),
}

/// The reason for which an item of a transaction was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Another item is the reason.
    None,
    /// The condition does not hold.
    ConditionFailed,
    /// Another transaction is using the item.
    Conflict,
    /// The partition key has no capacity left.
    Throttled,
}

impl Reason {
    /// Returns the code of the reason.
    fn code(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::ConditionFailed => "ConditionalCheckFailed",
            Self::Conflict => "TransactionConflict",
            Self::Throttled => "ThrottlingError",
        }
    }
}

impl TableError {
    /// Returns the name of the reason for reports.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::ConditionFailed => "condition failed",
            Self::Conflict => "transaction conflict",
            Self::Throttled => "throttled",
            Self::Invalid(_) => "invalid",
            Self::Cancelled(reasons) if reasons.contains(&Reason::ConditionFailed) => "condition failed",
            Self::Cancelled(reasons) if reasons.contains(&Reason::Conflict) => "transaction conflict",
            Self::Cancelled(_) => "throttled",
        }
    }

    /// Returns the body of the response, whose status is 400.
    pub(super) fn to_json(&self) -> Value {
        let body = |code: &str, message: &str| json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message});
        match self {
            Self::ConditionFailed => body("ConditionalCheckFailedException", "The conditional request failed"),
            Self::Conflict => body("TransactionConflictException", "Transaction is ongoing for the item"),
            Self::Throttled => body("ThrottlingException", "Throughput exceeds the current capacity of your table or index"),
            Self::Invalid(message) => body("ValidationException", message),
            Self::Cancelled(reasons) => {
                let mut cancelled = body("TransactionCanceledException", "Transaction cancelled");
                let reasons = reasons.iter().map(|reason| json!({"Code": reason.code()})).collect();
                if let Some(fields) = cancelled.as_object_mut() {
                    fields.insert("CancellationReasons".to_owned(), Value::Array(reasons));
                }
                cancelled
            }
        }
    }
}
