//! Permissions of a principal.

use super::{Client, Scopes};
use crate::vocab::level::Level;

/// The permissions of a principal.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Permissions {
    /// The resources that the credential of the request allows to read. Never more than the client is registered for.
    pub scopes: Scopes,
    /// The registration of the client, if it has one: its groups, containers, quota and destination.
    pub client: Option<Client>,
}

impl Permissions {
    /// Returns true if an export of this level, and of the group that it names, is allowed.
    pub fn allows_level(&self, level: &Level) -> bool {
        let Some(groups) = self.client.as_ref().and_then(|client| client.groups.as_ref()) else { return true };
        match level {
            Level::Group(id) => groups.contains(id),
            Level::System | Level::AllPatients | Level::OnePatient(_) => false,
        }
    }
}
