//! Bytes that come in and bytes that go out, as files: events and their answers, and golden files.

mod events;
mod golden;
