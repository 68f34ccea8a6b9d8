//! A Bulk Data client, and the `headrace export` command that uses it.

mod body;
pub mod bulk;
pub mod checksum;
mod counter;
pub mod download;
pub mod error;
pub mod error_files;
pub mod export;
pub mod file_names;
pub mod folder;
pub mod limits;
pub mod login;
pub mod manifest;
pub mod origin;
pub mod out_dir;
mod patience;
mod progress;
mod rejection;
mod retry_after;
mod session;
mod summary;
pub mod timer;
mod transfer;
mod transport;
