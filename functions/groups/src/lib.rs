//! `GET [base]/Group/[id]` and `GET [base]/Group?…`: which groups there are to export.

mod bundle;
pub mod handler;
