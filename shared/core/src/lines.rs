//! The path of a line from the lake to an output file.

pub mod checkpoint;
pub mod reading;
pub mod selection;
