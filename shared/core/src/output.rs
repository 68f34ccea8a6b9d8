//! The output of a finished job: the manifest that lists its files.

pub mod manifest;
