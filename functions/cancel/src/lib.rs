//! `DELETE [base]/_operations/export/[job]`: cancels an export.

pub mod handler;
