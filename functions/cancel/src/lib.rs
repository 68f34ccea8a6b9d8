//! `DELETE [base]/_operations/export/[job]`: takes an export back.

pub mod handler;
