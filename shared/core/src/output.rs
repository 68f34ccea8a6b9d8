//! The output of a finished job: the manifest that lists its files, and the summaries of their contents.

pub mod content;
pub mod manifest;
pub mod usage_report;
