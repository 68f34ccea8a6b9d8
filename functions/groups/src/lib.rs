//! `GET [base]/Group/[id]` and `GET [base]/Group?…`: reads and searches the groups of the lake.

mod bundle;
pub mod handler;
