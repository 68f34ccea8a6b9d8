//! The queue's consumer: plans, reads, gathers and finishes, one task per message.

pub mod handler;
