//! Registered clients, as an operator manages them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Actor, FixedConfigurations, Scopes};
use crate::vocab::clock::Millis;
use crate::vocab::container::Container;
use crate::vocab::ids::{Caller, RegistrationId};
use crate::vocab::webhook::RegisteredWebhook;

/// The registration of a client (SMART Backend Services, "Registering a client").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The `client_id`, or the name of an identity that another system authenticates.
    pub id: Caller,
    /// The random id of the registration. `None` for one of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<RegistrationId>,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The keys that authenticate the client.
    pub keys: ClientKeys,
    /// The number of times that the operator has replaced the keys.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub key_changes: u32,
    /// The scopes that the client may be granted at most.
    pub scopes: Scopes,
    /// The groups that the client may export. It may then export nothing else. `None` allows every group and all other
    /// levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<String>>,
    /// The containers that the client may name. `None` allows every container that the deployment allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeSet<Container>>,
    /// The anonymization configurations with which the client may export. It may then export nothing else, and select nothing by values
    /// that the configurations hide. `None` allows everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymization_configs: Option<FixedConfigurations>,
    /// The maximum number of concurrent exports. `None` applies the deployment's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_exports: Option<u32>,
    /// The client's own destination, used instead of the deployment's: `bucket` or `bucket/prefix` on AWS, a folder on a
    /// single machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The webhook that gets the events of the client's exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<RegisteredWebhook>,
    /// True if every request of the client is rejected.
    #[serde(default)]
    pub is_disabled: bool,
    /// The time of registration.
    pub created_at: Millis,
    /// The time of the last change to the registration.
    pub changed_at: Millis,
}

impl Client {
    /// Creates a registration that is restricted by its scopes alone.
    pub fn new(id: Caller, keys: ClientKeys, scopes: Scopes, now: Millis) -> Self {
        Self {
            id,
            registration_id: None,
            name: None,
            keys,
            key_changes: 0,
            scopes,
            groups: None,
            containers: None,
            anonymization_configs: None,
            max_exports: None,
            destination: None,
            webhook: None,
            is_disabled: false,
            created_at: now,
            changed_at: now,
        }
    }

    /// Returns what an access token must have for the registration as it is now.
    pub fn token_binding(&self) -> TokenBinding {
        TokenBinding { id: self.registration_id.clone(), key_changes: self.key_changes }
    }

    /// Replaces the keys. Access tokens that the client has got with the old keys end.
    pub fn replace_keys(&mut self, keys: ClientKeys) {
        self.keys = keys;
        self.key_changes = self.key_changes.wrapping_add(1);
    }
}

/// The registration that an access token belongs to. The token ends with the registration, and with the keys by which the client has got it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenBinding {
    /// The id of the registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RegistrationId>,
    /// The number of times that the operator had replaced the keys.
    #[serde(skip_serializing_if = "is_zero")]
    pub key_changes: u32,
}

/// Returns true if a number is 0, so that it is not stored.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The keys that authenticate a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKeys {
    /// The URL of a JSON Web Key Set.
    JwksUrl(String),
    /// The JSON Web Key Set, as it was registered.
    Jwks(String),
    /// External authentication, without keys: AWS IAM or the operator's identity provider authenticates the client.
    External,
}

/// A page of registrations, sorted by client id.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClientPage {
    /// The registrations.
    pub clients: Vec<Client>,
    /// The client after which the next page starts. `None` on the last page.
    pub next: Option<Caller>,
}

/// The error for text that is not a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientId {
    /// The text has characters that no client id has, or a wrong length.
    #[error("a client id is 1 to 256 printable ASCII characters without spaces")]
    Form,
    /// The audit trail and the job table have this name for somebody else.
    #[error(
        "no client id is `{}`, `{}` or `{}`: the audit trail has these names for the local user, for this service and for unknown senders",
        Caller::LOCAL,
        Actor::Service.as_str(),
        Actor::Unknown.as_str()
    )]
    Reserved,
}

/// Returns true if the text has the form of a client id: 1 to 256 visible ASCII characters.
pub fn has_client_id_form(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks that the text can be the id of a new client: it has the form of one, and is not a name that the audit trail shows for somebody
/// else.
pub fn check_client_id(text: &str) -> Result<(), InvalidClientId> {
    if !has_client_id_form(text) {
        return Err(InvalidClientId::Form);
    }
    // Listings differ in upper and lower case, and so may readers.
    let reserved = [Caller::LOCAL, Actor::Unknown.as_str(), Actor::Service.as_str()];
    if reserved.iter().any(|name| name.eq_ignore_ascii_case(text)) { Err(InvalidClientId::Reserved) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_has_a_name_that_the_audit_trail_shows_for_somebody_else() {
        for name in ["local", "Headrace", "headrace", "unknown", "Unknown"] {
            assert_eq!(check_client_id(name), Err(InvalidClientId::Reserved), "{name}");
        }
        for name in ["", "a b", "größe", "headrace sync"] {
            assert_eq!(check_client_id(name), Err(InvalidClientId::Form), "{name}");
        }
        for name in ["lab", "headrace-lab", "unknown-2", "*", "https://idp.example#unknown"] {
            assert_eq!(check_client_id(name), Ok(()), "{name}");
        }
    }
}
