//! The subcommands that manage clients, keys, audit records and anonymization configurations.

pub mod audit;
pub mod clients;
pub mod deid;
mod deid_report;
pub mod keys;
pub(crate) mod table;
