//! The files that a client gets, and the manifest that lists them.

pub mod file;
pub mod manifest;
