//! `GET [base]/_operations/export/[job]`: how far an export has come, or its manifest.
//! `GET [base]/_operations/export`: the caller's exports.

pub mod handler;
pub mod list;
mod task;
