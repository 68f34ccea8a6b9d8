//! A model of DynamoDB: the operations that the job table uses, over items in memory, with the capacity, the conflicts and the latency of
//! the service.
//!
//! The adapter of `headrace-aws` calls it through the real SDK client, so that its expressions, its retries and its sorting of errors are
//! the ones that run on AWS.

mod capacity;
mod client;
mod engine;
mod error;
mod expression;
mod item;
mod limits;
mod query;
mod request;
mod server;
mod stored;
mod write;

pub use client::table_client;
pub use engine::{Engine, EngineAnswer};
pub use server::TableServer;
