//! What the service does, a file per verb.

pub mod admit;
pub mod cancel;
mod decide;
mod deidentify;
mod finish;
pub mod groups;
pub mod hand_out;
pub mod kick_off;
pub mod list;
pub mod look_up;
mod organize;
mod plan;
mod pump;
pub mod reap;
mod reread;
mod resolve;
pub mod run_task;
pub mod seal;
pub mod status;
pub mod verify;
