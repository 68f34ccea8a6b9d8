//! The subcommands that manage clients, keys, schedules, events, audit records, anonymization configurations and lakes, and those for the
//! exports of a server.

pub mod audit;
pub mod clients;
pub mod deid;
pub mod documents;
pub mod events;
pub mod job_table;
pub mod jobs;
pub mod keys;
pub mod lake;
pub mod schedules;
pub(crate) mod table;
pub mod token;
pub mod ui;
pub mod webhooks;
