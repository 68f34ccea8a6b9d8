//! The scheduled look at what nobody else looks after.

pub mod handler;
