//! A registered client, as an operator manages it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Scopes;
use crate::request::Container;
use crate::vocab::clock::Millis;
use crate::vocab::ids::Caller;

/// A client that is known to this service (SMART Backend Services, "Registering a client").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Its `client_id`; of a caller who is known elsewhere, the name by which they are known there.
    pub id: Caller,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it proves who it is.
    pub keys: ClientKeys,
    /// What it may be granted at most.
    pub scopes: Scopes,
    /// The groups that it may export, and nothing else; `None` is every group, and the other levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<String>>,
    /// The containers that it may name; `None` is every one that the deployment allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeSet<Container>>,
    /// How many of its exports may be at work; `None` is what the deployment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Where its files go instead of the deployment's destination: `bucket` or `bucket/prefix` on AWS, a folder on one
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Whether it is shut out.
    #[serde(default)]
    pub is_disabled: bool,
    /// When it was registered.
    pub created_at: Millis,
    /// When its registration was changed last.
    pub changed_at: Millis,
}

impl Client {
    /// One that nothing but its scopes holds back.
    pub fn new(id: Caller, keys: ClientKeys, scopes: Scopes, now: Millis) -> Self {
        Self {
            id,
            name: None,
            keys,
            scopes,
            groups: None,
            containers: None,
            jobs: None,
            destination: None,
            is_disabled: false,
            created_at: now,
            changed_at: now,
        }
    }
}

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKeys {
    /// By keys at this URL, its JSON Web Key Set.
    JwksUrl(String),
    /// By keys of this JSON Web Key Set, as it was registered.
    Jwks(String),
    /// To somebody else: AWS IAM, or the operator's identity provider.
    Elsewhere,
}

/// Some clients, by name.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClientPage {
    /// The clients.
    pub clients: Vec<Client>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Caller>,
}

/// The text cannot name a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client is named by 1 to 256 printable ASCII characters without blanks, and not `{}`", Caller::LOCAL)]
pub struct InvalidClientId;

/// Whether the text can name a client.
pub fn check_client_id(text: &str) -> Result<(), InvalidClientId> {
    let is_plain = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && text != Caller::LOCAL { Ok(()) } else { Err(InvalidClientId) }
}
