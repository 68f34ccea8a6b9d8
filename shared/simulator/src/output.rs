//! The destination: written files, which are kept as far as they are read again, and the numbers of their lines.

mod files;
mod store;
mod writer;

pub use files::{Destination, StoredLines};
pub use store::ModelOutput;
