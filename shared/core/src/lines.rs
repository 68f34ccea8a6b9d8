//! Processes the lines of the lake: selects them, de-identifies them, and writes them to output files and fragments.

pub mod checkpoint;
pub mod deid;
pub mod line_processor;
mod report_limit;
pub mod selection;
