//! The lake: its layouts, how it is cut into slices, and how lines are read from it.

pub mod ndjson;
pub mod reader;
pub mod slices;
