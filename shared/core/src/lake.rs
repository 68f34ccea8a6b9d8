//! Reads the lake: recognizes its NDJSON objects, splits them into slices, and reads the lines of a slice.

pub mod ndjson;
pub mod reader;
pub mod slices;
