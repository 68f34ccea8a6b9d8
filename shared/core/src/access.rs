//! Who may do what: clients, what they may read, and whoever stands at the door.

mod client;
mod key;
mod scope;
mod visitor;

pub use client::{Client, ClientKeys, ClientPage, InvalidClientId, check_client_id};
pub use key::{PublicKey, SigningAlgorithm, TokenKey};
pub use scope::{Granted, NotGrantable, Scopes, Why};
pub use visitor::{Agent, Origin, Principal, Reach, Who};
