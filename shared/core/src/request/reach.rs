//! What a visitor's reach leaves of a request.
//!
//! A request that goes beyond it is refused as a whole, under `handling=lenient` too: that leaves out what a server does
//! not support, and a client must not take what it may not read for what is not there.

use std::collections::BTreeSet;

use headrace_fhir::{FhirVersion, Instant, ResourceType};

use super::lists::is_within;
use super::{ExportRequest, Level, Parameter, Refusal};
use crate::access::{Reach, Scopes};
use crate::vocab::clock::Millis;
use crate::vocab::outcome::IssueCode;

/// So many types are named in a message.
const TYPES_SHOWN: usize = 5;

impl Refusal {
    /// What the credential's scopes do not reach to; what is missing stands in `text`.
    pub fn of_scopes(text: impl Into<String>) -> Self {
        Self::of(403, IssueCode::Forbidden, "Authorization", text)
    }

    /// Whether it was made by [`Refusal::of_scopes`]: OAuth calls that `insufficient_scope`.
    pub fn is_of_scopes(&self) -> bool {
        self.status == 403 && self.expression.as_deref() == Some("Authorization")
    }
}

impl ExportRequest {
    /// The request as it may be served within `reach`: of all types, those that may be read; of a type that may be read in
    /// part, what [`ExportRequest::limits`] says.
    pub(super) fn within(mut self, reach: &Reach, now: Millis) -> Result<Self, Refusal> {
        require_level(reach, &self.level)?;
        require_container(reach, &self)?;
        let scopes = match &reach.scopes {
            Scopes::Everything => return Ok(self),
            scopes @ Scopes::Only(_) => Readable { scopes, version: self.version, now: Instant::from_millis(now.0) },
        };
        scopes.require(Parameter::Type, self.types.iter().flatten().copied())?;
        scopes.require(Parameter::TypeFilter, self.filtered_types())?;
        let added = self.associated.iter().any(|value| value.is_provenance()).then(|| ResourceType::named("Provenance"));
        scopes.require(Parameter::IncludeAssociatedData, added.flatten())?;
        if self.types.is_none() {
            self.types = Some(scopes.all_for(&self.level)?);
        }
        self.limits = self.types_read().into_iter().flat_map(|kind| scopes.limits(kind)).collect();
        Ok(self)
    }

    fn filtered_types(&self) -> impl Iterator<Item = ResourceType> {
        self.type_filters.iter().filter_map(|filter| ResourceType::named(filter.trim_start().split('?').next()?))
    }
}

/// Not a word on whether there is such a group.
fn require_level(reach: &Reach, level: &Level) -> Result<(), Refusal> {
    if reach.allows_level(level) {
        return Ok(());
    }
    let text = match level {
        Level::Group(_) => "this client may not export this group: ask the operator of this server to add it to the client's registration",
        Level::System | Level::AllPatients | Level::OnePatient(_) => {
            "this client may export single groups only: name one of them, as in [base]/Group/[id]/$export"
        }
    };
    Err(Refusal { status: 403, code: IssueCode::Forbidden, text: text.to_owned(), expression: None })
}

fn require_container(reach: &Reach, request: &ExportRequest) -> Result<(), Refusal> {
    let Some(container) = &request.container else { return Ok(()) };
    let allowed = reach.client.as_ref().and_then(|client| client.containers.as_ref());
    if allowed.is_none_or(|allowed| allowed.contains(container)) {
        return Ok(());
    }
    let text =
        "_container names a place that this client may not use: ask the operator of this server to add it to the client's registration";
    Err(Refusal::of(403, IssueCode::Forbidden, Parameter::Container.as_str(), text))
}

/// Scopes that do not allow everything, as this deployment can hold to them.
struct Readable<'a> {
    scopes: &'a Scopes,
    version: FhirVersion,
    now: Instant,
}

impl Readable<'_> {
    fn allow(&self, kind: ResourceType) -> bool {
        self.scopes.filters_on(kind, self.version, self.now).is_some()
    }

    fn limits(&self, kind: ResourceType) -> impl Iterator<Item = String> {
        self.scopes.queries_on(kind).map(move |query| format!("{kind}?{query}"))
    }

    fn require(&self, parameter: Parameter, kinds: impl IntoIterator<Item = ResourceType>) -> Result<(), Refusal> {
        let forbidden: BTreeSet<&str> = kinds.into_iter().filter(|kind| !self.allow(*kind)).map(ResourceType::as_str).collect();
        let Some(first) = forbidden.first() else { return Ok(()) };
        let mut names = forbidden.iter().take(TYPES_SHOWN).copied().collect::<Vec<_>>().join(", ");
        if forbidden.len() > TYPES_SHOWN {
            names = format!("{names} and {} more", forbidden.len() - TYPES_SHOWN);
        }
        let parameter = parameter.as_str();
        Err(Refusal::of_scopes(format!(
            "{parameter} asks for {names}, which the scopes of this request do not allow to read: \
             leave it out, or have scopes such as system/{first}.rs granted"
        )))
    }

    /// Every type that may be read. Some of it must be what an export of this level can hold.
    fn all_for(&self, level: &Level) -> Result<BTreeSet<ResourceType>, Refusal> {
        let types: BTreeSet<ResourceType> = ResourceType::all().filter(|kind| self.allow(*kind)).collect();
        if types.iter().any(|kind| is_within(*kind, self.version, level)) {
            return Ok(types);
        }
        Err(Refusal::of_scopes(
            "the scopes of this request allow to read nothing that such an export holds: have scopes such as system/Patient.rs granted",
        ))
    }
}
