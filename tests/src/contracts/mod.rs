//! Contract test suites, one per port. `tests/tests/contracts.rs` runs them against every implementation.
//!
//! A case is a function that takes a new, empty implementation. It fails by an assertion or by returning an error. The macro of
//! each suite lists its cases.

pub mod access_store;
pub mod event_outbox;
pub mod job_store;
pub mod lake_writer;
pub mod output_store;
pub mod resource_source;
pub mod schedule_store;
pub mod task_queue;

pub use headrace_local::stores::embedded::BoxError;

/// Result of a case.
pub type CaseResult = Result<(), BoxError>;

/// Defines a test for each case. `$open` is an async function that creates the argument of the cases.
#[macro_export]
macro_rules! contract_cases {
    ($suite:ident, $name:ident, $open:path, [$($case:ident),+ $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() -> $crate::contracts::CaseResult {
                    let implementation = $open().await?;
                    $crate::contracts::$suite::$case(&implementation).await
                }
            )+
        }
    };
}
