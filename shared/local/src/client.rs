//! A Bulk Data client, and the `headrace export` command that uses it.

mod body;
pub mod bulk;
pub mod checksum;
mod counter;
mod deletions;
pub mod download;
pub mod error;
mod error_files;
pub mod export;
pub mod file_names;
pub mod folder;
pub mod limits;
pub mod login;
pub mod manifest;
pub mod origin;
pub mod out_dir;
mod out_manifest;
mod patience;
mod progress;
mod rejection;
mod report;
mod retry_after;
mod session;
pub mod since_file;
pub mod timer;
mod transfer;
mod transport;
