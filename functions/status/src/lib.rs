//! `GET [base]/_operations/export/[job]`: reports the status of an export, or its manifest.
//! `GET [base]/_operations/export`: lists the client's exports.

pub mod handler;
pub mod list;
mod task;
