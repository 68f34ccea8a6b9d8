//! Directories as source, destination and audit store.

mod audit;
mod blocking_call;
mod file_writer;
mod growing_file;
mod keys_files;
mod lake;
mod lake_writer;
mod output;
mod overlap;
mod reservations;
mod verified_files;

pub use audit::DirectoryAudit;
pub(crate) use blocking_call::{CALL_TIME_LIMIT, CallWatch};
pub use file_writer::DirectoryFileWriter;
pub use lake::DirectoryLake;
pub use lake_writer::DirectoryLakeWriter;
pub use output::{DirectoryOutputStore, GivenConfiguration};
pub(crate) use overlap::{mixes_with_lake, overlaps_lake};
