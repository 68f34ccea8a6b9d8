//! Key sets of clients and identity providers, fetched from their URLs and cached for as long as their owners allow.

mod address;
mod cache;
mod fetch;
mod lifetime;
mod url_policy;

pub use address::is_public;
pub use cache::{JwksCache, JwksError};
pub use fetch::FetchError;
pub(crate) use fetch::build_client;
pub use url_policy::{InvalidJwksUrl, UrlPolicy};
