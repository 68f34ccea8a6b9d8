//! The HTTP server on one machine, and the `headrace serve` command that starts it.

pub mod access;
pub(crate) mod feed;
mod file_response;
mod finished_files;
pub(crate) mod gateway_request;
pub(crate) mod host;
pub mod http;
pub(crate) mod listen;
mod open_by_default;
mod own_address;
pub(crate) mod page;
pub mod queue;
mod request_body;
pub(crate) mod request_head;
mod response_format;
pub(crate) mod schedule_status;
pub mod serve;
pub mod service;
pub(crate) mod signals;
pub mod state;
pub mod state_access;
pub(crate) mod webhook_option;
pub(crate) mod workers;
