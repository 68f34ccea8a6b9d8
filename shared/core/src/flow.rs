//! The operations of the service, one file each.
//!
//! [`client`] answers requests, [`work`] runs tasks, [`upkeep`] runs on a schedule. Each imports only from those before it. All of
//! them may use [`resolve_patients`] and [`export_time`].

pub mod client;
pub mod export_time;
pub mod resolve_patients;
pub mod upkeep;
pub mod work;
