//! Access control: registered clients, their keys and scopes, and the principals that send requests.

mod client;
mod key;
mod permissions;
mod principal;
mod scope;

pub use client::{Client, ClientKeys, ClientPage, InvalidClientId, check_client_id};
pub use key::{PublicKey, SigningAlgorithm, TokenKey};
pub use permissions::Permissions;
pub use principal::{Actor, Agent, Origin, Principal};
pub use scope::{GrantedScopes, RejectedScope, RejectionReason, Scopes};
