//! Replayed events with their expected responses, and golden files of the service's output.

mod event_bus;
mod events;
mod golden;
