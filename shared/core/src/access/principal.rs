//! Principals, and agents as audit records name them.

use serde::{Deserialize, Serialize};

use super::Permissions;
use crate::vocab::ids::Caller;
use crate::vocab::schedule_key::ScheduleName;

/// The authenticated sender of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The identity, which owns the jobs that the principal starts.
    pub caller: Caller,
    /// True if a credential was required and verified.
    pub is_authenticated: bool,
    /// The permissions.
    pub permissions: Permissions,
    /// The origin of the request.
    pub origin: Origin,
}

impl Principal {
    /// Returns the agent that the audit records of the request name: the caller and the origin. A schedule has no request: there the
    /// service itself acts, with the permissions of the caller.
    pub fn agent(&self) -> Agent {
        let actor = if self.origin.schedule.is_some() { Actor::Service } else { Actor::Caller(self.caller.clone()) };
        Agent { actor, origin: self.origin.clone() }
    }
}

/// The origin of a request, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The network address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The gateway's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The schedule that stands in place of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleName>,
}

/// The agent of an audit record: the actor and the origin of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The actor.
    pub actor: Actor,
    /// The origin of the request.
    #[serde(flatten)]
    pub origin: Origin,
}

/// The actor of an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A known caller.
    Caller(Caller),
    /// A sender that could not be authenticated.
    Unknown,
    /// The service itself: a worker or the reaper.
    Service,
}

impl Actor {
    /// Returns the name of the actor for logs and listings: a caller's id, `unknown` or `headrace`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Caller(caller) => &caller.0,
            Self::Unknown => "unknown",
            Self::Service => "headrace",
        }
    }
}

impl Agent {
    /// Returns the agent for actions of this service itself.
    pub fn service() -> Self {
        Self { actor: Actor::Service, origin: Origin::default() }
    }

    /// Returns the agent for actions of this service on behalf of a schedule.
    pub fn schedule(name: &ScheduleName) -> Self {
        Self { actor: Actor::Service, origin: Origin { schedule: Some(name.clone()), ..Origin::default() } }
    }
}
