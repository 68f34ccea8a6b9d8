//! The whole service in one process on one machine: the `headrace` program.

pub mod cli;
pub mod client;
pub mod commands;
pub mod program;
pub mod server;
pub mod stores;
mod terminal;
