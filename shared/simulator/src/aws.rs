//! The processes of the service on Lambda, and the passage of time in them.

pub mod link;
pub mod pauses;
pub mod requests;
pub mod worker;
