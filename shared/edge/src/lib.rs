//! What every Lambda needs at its rim: settings, telemetry, HTTP in and out, the SQS envelope.

pub mod base;
pub mod config;
pub mod door;
pub mod form;
pub mod gateway;
pub mod jose;
pub mod jwks;
pub mod parameters;
pub mod reply;
pub mod request;
pub mod sqs;
pub mod system;
pub mod telemetry;
