//! The whole service in one process on one machine: the `headrace` program.

pub mod cli;
pub mod client;
pub mod directory;
pub mod embedded;
pub mod export;
pub mod http;
pub mod program;
pub mod queue;
pub mod serve;
pub mod service;
pub mod signer;
