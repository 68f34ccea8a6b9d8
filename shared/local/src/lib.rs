//! The whole service in one process on one machine: the `headrace` program.

pub mod access;
pub mod audit;
pub mod cli;
pub mod client;
pub mod client_key;
pub mod clients;
mod columns;
pub mod deid;
pub mod directory;
pub mod embedded;
pub mod export;
mod host;
pub mod http;
pub mod keys;
mod listen;
pub mod login;
mod private;
pub mod program;
pub mod queue;
pub mod sealer;
pub mod serve;
pub mod service;
pub mod signer;
pub mod state;
