//! The parts that every function shares: settings, logs and metrics, authentication, HTTP requests and responses, and SQS
//! messages.

pub mod accept;
pub mod auth;
pub mod base_url;
pub mod config;
pub mod event_targets;
pub mod form;
pub mod gateway;
pub mod jose;
pub mod jwks;
pub mod parameters;
pub mod percent;
mod prefer;
pub mod reply;
pub mod request;
pub mod sqs;
pub mod system;
pub mod telemetry;
pub mod webhook;
