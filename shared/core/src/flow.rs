//! The flows of the service: one file a verb.

pub mod client;
pub mod look_up;
pub mod upkeep;
pub mod work;
