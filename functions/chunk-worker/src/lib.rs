//! Consumes the task queue: plans exports, reads the lake, merges fragments and finalizes jobs, one task per message.

pub mod handler;
