//! Source and destination as directories.

mod lake;
mod parts;

pub use lake::DirectoryLake;
pub use parts::{DirectoryDraft, DirectoryParts};
