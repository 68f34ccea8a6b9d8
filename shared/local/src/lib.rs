//! The whole service in one process on one machine: the headrace program.

pub mod embedded;
