//! One suite per port, run by `tests/tests/contracts.rs` against every implementation.
//!
//! A case is a function that takes a fresh, empty implementation and fails by an assertion or by an error. The macro
//! beside each suite lists its cases.

pub mod access_store;
pub mod job_store;
pub mod part_store;
pub mod resource_source;
pub mod task_queue;

pub use headrace_local::stores::embedded::BoxError;

/// What a case returns.
pub type Held = Result<(), BoxError>;

/// Makes a test of each case: `$open` is an async function that gives what the cases take.
#[macro_export]
macro_rules! contract_cases {
    ($suite:ident, $name:ident, $open:path, [$($case:ident),+ $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() -> $crate::contracts::Held {
                    let implementation = $open().await?;
                    $crate::contracts::$suite::$case(&implementation).await
                }
            )+
        }
    };
}
