//! Permissions of a principal.

use super::{Client, FixedConfigurations, Scopes};
use crate::vocab::ids::RegistrationId;
use crate::vocab::level::Level;

/// The permissions of a principal.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Permissions {
    /// The resources that the credential of the request allows to read. Never more than the client is registered for.
    pub scopes: Scopes,
    /// The registration of the client, if it has one: its groups, containers, quota and destination.
    pub client: Option<Client>,
    /// True if the operator has written the request: that of a schedule. What it selects is the operator's choice.
    pub is_operators_request: bool,
}

impl Permissions {
    /// Returns the id of the client's registration. `None` without a registration, and for one of an earlier version.
    pub fn registration_id(&self) -> Option<&RegistrationId> {
        self.client.as_ref()?.registration_id.as_ref()
    }

    /// Returns the anonymization configurations that the registration fixes. `None` if the client may also export without one.
    pub fn fixed_configurations(&self) -> Option<&FixedConfigurations> {
        self.client.as_ref()?.anonymization_configs.as_ref()
    }

    /// Returns true if the request may select by values of the lake, such as ids and names. A client with fixed configurations could
    /// otherwise ask for a person, and get the person's pseudonym.
    pub fn may_select_by_values(&self) -> bool {
        self.is_operators_request || self.fixed_configurations().is_none()
    }

    /// Returns true if an export of this level, and of the group that it names, is allowed.
    pub fn allows_level(&self, level: &Level) -> bool {
        let Some(groups) = self.client.as_ref().and_then(|client| client.groups.as_ref()) else { return true };
        match level {
            Level::Group(id) => groups.contains(id),
            Level::System | Level::AllPatients | Level::OnePatient(_) => false,
        }
    }
}
