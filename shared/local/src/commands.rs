//! The subcommands that manage clients, keys, audit records and anonymization configurations, and those for the exports of a server.

pub mod audit;
pub mod clients;
pub mod deid;
mod deid_report;
pub mod documents;
pub mod jobs;
pub mod keys;
pub(crate) mod table;
pub mod token;
pub mod ui;
