//! Reads the lake: recognizes its NDJSON objects, splits them into slices, reads and classifies the lines of a slice, and parses its
//! watermark.

pub mod inner_lake;
pub mod large_objects;
pub mod line;
pub mod ndjson;
pub mod near_misses;
pub mod origin;
pub mod reader;
pub mod slices;
pub mod sync_report;
pub mod watermark;
