//! Key sets of others, fetched from their URLs: with care where a client has named the URL, and never kept longer than
//! their owner allows.

mod address;
mod fetch;
mod lifetime;
mod source;

pub use address::is_public;
pub use fetch::{FetchError, Trust};
pub use source::{JwksError, JwksSource};
