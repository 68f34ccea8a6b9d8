//! The client of a Bulk Data server.

pub mod bulk;
pub mod client_key;
pub mod export;
pub mod login;
