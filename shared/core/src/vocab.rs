//! Vocabulary that every folder shares: time, identifiers, errors, OperationOutcome, export levels and containers.
//!
//! Nothing in this folder imports from another folder of the crate.

pub mod back_off;
pub mod byte_order_mark;
pub mod clock;
pub mod config_digest;
pub mod config_name;
pub mod container;
pub mod error;
pub mod ids;
pub mod iso_duration;
pub mod lake_settings;
pub mod level;
pub mod outcome;
pub mod plural;
pub mod schedule_key;
pub mod setting;
pub(crate) mod text;
pub mod webhook;
