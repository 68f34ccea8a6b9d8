//! A Bulk Data client, and the `headrace export` command that uses it.

pub mod bulk;
pub mod export;
pub mod login;
