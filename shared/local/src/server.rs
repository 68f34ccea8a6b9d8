//! The server on one machine.

pub mod access;
pub(crate) mod host;
pub mod http;
pub(crate) mod listen;
pub mod queue;
pub mod serve;
pub mod service;
pub mod state;
