//! A Bulk Data client, and the `headrace export` command that uses it.

pub mod bulk;
pub mod checksum;
mod counter;
pub(crate) mod credential;
mod deletions;
pub mod download;
pub mod dry_run;
mod earlier_export;
mod error_files;
pub mod export;
mod exported_lines;
pub mod exports;
pub mod file_names;
pub mod folder;
mod increment_basis;
pub(crate) mod late_changes;
mod line_rule;
pub(crate) mod local_export;
mod local_files;
pub mod manifest;
pub mod out_dir;
mod out_manifest;
pub(crate) mod patience;
pub(crate) mod progress;
mod report;
pub mod since_file;
pub mod sync;
pub mod timer;
mod transfer;
mod unknown_deletions;

pub(crate) use headrace_client::{body, rejection, retry_after, secrets, transport};
pub use headrace_client::{error, limits, login, origin, session};
