//! Directories as source, destination and audit store.

mod audit;
mod blocking_call;
mod keys_files;
mod lake;
mod lake_writer;
mod output;
mod verified_files;

pub use audit::DirectoryAudit;
pub(crate) use blocking_call::{CALL_TIME_LIMIT, CallWatch};
pub use lake::DirectoryLake;
pub use lake_writer::DirectoryLakeWriter;
pub(crate) use output::resolve_links;
pub use output::{DirectoryFileWriter, DirectoryOutputStore, GivenConfiguration};
