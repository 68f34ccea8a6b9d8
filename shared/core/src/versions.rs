//! The versions of each resource: which one counts, and what is exported of it.

pub mod correction;
pub mod key;
pub mod record;
pub mod resolution;
