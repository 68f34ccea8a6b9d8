//! Replayed events with their expected responses, and golden files of the service's output.

mod events;
mod golden;
