//! Directories as source, destination and audit store.

mod audit;
mod lake;
mod output;

use tokio::runtime::{Handle, RuntimeFlavor};

pub use audit::DirectoryAudit;
pub use lake::DirectoryLake;
pub use output::{DirectoryFileWriter, DirectoryOutputStore};

/// Runs blocking file operations on the current thread. Other tasks of the runtime move to other threads.
///
/// A worker reads, processes and writes its bytes on one core, while they are in its cache. Moving each read and write to
/// another thread cost 1.7 times the processor time. After the first call the worker keeps its thread until it next awaits, so
/// further calls cost nothing.
fn in_place<T>(operation: impl FnOnce() -> T) -> T {
    let has_other_threads = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_other_threads { tokio::task::block_in_place(operation) } else { operation() }
}
