//! The verbs of a client.

pub mod admit;
pub mod cancel;
pub mod groups;
pub mod hand_out;
pub mod kick_off;
pub mod list;
pub mod status;
