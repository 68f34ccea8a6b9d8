//! `GET [base]/_operations/export/[job]`: how far an export has come, or its manifest.

pub mod handler;
