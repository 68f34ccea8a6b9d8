//! Whoever sent a request.

use serde::{Deserialize, Serialize};

use super::{Client, Scopes};
use crate::request::{ExportRequest, Level};
use crate::vocab::ids::Caller;

/// Whoever sent a request, once it is known who that is.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The owner of what they start.
    pub caller: Caller,
    /// Whether a credential was asked for.
    pub is_authenticated: bool,
    /// What they may do.
    pub reach: Reach,
    /// From where the request came.
    pub origin: Origin,
}

impl Principal {
    /// As records name them.
    pub fn agent(&self) -> Agent {
        Agent { who: Who::Caller(self.caller.clone()), origin: self.origin.clone() }
    }
}

/// What a visitor may do.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Reach {
    /// What the request's credential lets them read. Never more than the client is registered for.
    pub scopes: Scopes,
    /// The client's registration, if there is one: its groups, containers, limits and destination.
    pub client: Option<Client>,
}

impl Reach {
    /// Whether an export of this level, with the group that it names, may be asked for.
    pub fn allows_level(&self, level: &Level) -> bool {
        let Some(groups) = self.client.as_ref().and_then(|client| client.groups.as_ref()) else { return true };
        match level {
            Level::Group(id) => groups.contains(id),
            Level::System | Level::AllPatients | Level::OnePatient(_) => false,
        }
    }

    /// Whether everything that a request exports is within it.
    pub fn covers(&self, request: &ExportRequest) -> bool {
        self.allows_level(&request.level) && self.scopes.cover(request)
    }
}

/// From where a request came, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The network address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The gateway's name of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Who has done something, as records name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Who.
    pub who: Who,
    /// From where.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Who has done something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A known caller.
    Caller(Caller),
    /// Somebody who could not show who they are.
    Unknown,
    /// This service by itself: a worker, or the reaper.
    Service,
}

impl Who {
    /// As people read it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Caller(caller) => &caller.0,
            Self::Unknown => "unknown",
            Self::Service => "headrace",
        }
    }
}

impl Agent {
    /// This service by itself.
    pub fn service() -> Self {
        Self { who: Who::Service, origin: Origin::default() }
    }
}
