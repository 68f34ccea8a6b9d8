//! An HTTP client of FHIR servers. The program uses it on one machine, and the function that fills the lake uses it on AWS.

pub mod body;
pub mod client_key;
pub mod error;
mod http_origin;
pub mod limits;
pub mod login;
pub mod origin;
pub mod rejection;
mod request_gate;
pub mod retry_after;
pub mod secrets;
pub mod session;
pub mod signing;
mod stored_credential;
pub mod text;
pub mod transport;

pub use http_origin::{HttpOrigin, OriginSettings};
pub use stored_credential::{InvalidCredential, parse_stored_credential};
