//! Resolves resource versions: finds the current version of each resource, and the resources that others bring into an export.

pub mod correction;
pub mod key;
pub mod record;
pub mod resolution;
