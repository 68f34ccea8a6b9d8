//! Access control: registered clients, their keys and scopes, and the principals that send requests.

mod client;
mod external_name;
mod fixed_configurations;
mod key;
mod permissions;
mod principal;
mod scope;

pub use client::{Client, ClientKeys, ClientPage, InvalidClientId, TokenBinding, check_client_id, has_client_id_form};
pub use external_name::is_external_name;
pub use fixed_configurations::{FixedConfiguration, FixedConfigurations};
pub use key::{PublicKey, SigningAlgorithm, TokenKey};
pub use permissions::Permissions;
pub use principal::{Actor, Agent, Origin, Principal};
pub use scope::{GrantedScopes, RejectedScope, RejectionReason, Scopes};
