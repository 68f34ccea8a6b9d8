//! A Bulk Data client, and the `headrace export` command that uses it.

pub mod bulk;
pub mod error_files;
pub mod export;
pub mod login;
