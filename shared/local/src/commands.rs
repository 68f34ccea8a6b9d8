//! The subcommands that manage clients, keys, audit records and anonymization configurations.

pub mod audit;
pub mod clients;
pub mod deid;
pub mod keys;
pub(crate) mod table;
