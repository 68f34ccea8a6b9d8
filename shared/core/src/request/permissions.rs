//! Restriction of a request to the permissions of its principal.
//!
//! A request beyond the permissions is rejected as a whole, even under `handling=lenient`: a client must be able to tell
//! "forbidden" from "empty".

use std::collections::BTreeSet;

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;

use super::fixed_configuration::{require_fixed_configuration, require_registered_queries};
use super::lists::is_exportable;
use super::{ExportRequest, Parameter, RequestError};
use crate::access::{FixedConfigurations, Permissions, Scopes};
use crate::vocab::clock::Millis;
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// The maximum number of types that an error lists.
const MAX_TYPES_SHOWN: usize = 5;

impl RequestError {
    /// Creates the error for a request that the scopes of the credential do not cover.
    pub fn insufficient_scope(text: impl Into<String>) -> Self {
        Self::new(403, IssueCode::Forbidden, "Authorization", text)
    }

    /// Returns true if [`RequestError::insufficient_scope`] created the error. The response then has the OAuth error
    /// `insufficient_scope`.
    pub fn is_insufficient_scope(&self) -> bool {
        self.status == 403 && self.expression.as_deref() == Some("Authorization")
    }
}

impl ExportRequest {
    /// Restricts the request to `permissions`: a request without `_type` is narrowed to the types that may be read, and
    /// [`ExportRequest::scope_queries`] is set.
    pub(super) fn restrict_to(mut self, permissions: &Permissions, now: Millis) -> Result<Self, RequestError> {
        require_level(permissions, &self.level)?;
        require_container(permissions, &self)?;
        require_fixed_configuration(permissions, &mut self)?;
        let scopes = match &permissions.scopes {
            Scopes::Everything => return Ok(self),
            scopes @ Scopes::Only(_) => EnforceableScopes { scopes, version: self.version, now: Instant::from_millis(now.0) },
        };
        scopes.require_types(Parameter::Type, self.types.iter().flatten().copied())?;
        scopes.require_types(Parameter::TypeFilter, self.filtered_types())?;
        let provenance = self.associated_data.iter().any(|value| value.is_provenance()).then_some(ResourceType::PROVENANCE);
        scopes.require_types(Parameter::IncludeAssociatedData, provenance)?;
        if self.types.is_none() {
            self.types = Some(scopes.readable_types(&self.level)?);
        }
        require_registered_queries(permissions, &self)?;
        self.scope_queries = self.exported_types().into_iter().flat_map(|kind| scopes.queries_for(kind)).collect();
        Ok(self)
    }

    /// Returns true if `permissions` allow to read everything that the request exports. Scope queries narrow the request. The
    /// client's own filters are not considered. If the registration fixes anonymization configurations, the request has one of them.
    pub fn is_covered_by(&self, permissions: &Permissions) -> bool {
        permissions.allows_level(&self.level)
            && permissions.fixed_configurations().is_none_or(|fixed| self.has_configuration_of(fixed))
            && self.exported_types().into_iter().all(|kind| {
                let queries = self.scope_queries_for(kind).map(str::to_owned).collect();
                permissions.scopes.covers(kind, &queries)
            })
    }

    /// Returns true if the request has one of these configurations.
    fn has_configuration_of(&self, fixed: &FixedConfigurations) -> bool {
        self.anonymization.as_ref().is_some_and(|requested| fixed.allow(&requested.name, requested.etag.as_deref()))
    }

    /// Iterates over the resource types of the queries of `_typeFilter`.
    fn filtered_types(&self) -> impl Iterator<Item = ResourceType> {
        self.type_filters.iter().filter_map(|filter| ResourceType::parse(filter.trim_start().split('?').next()?))
    }
}

/// Fails if the level is not allowed. The error does not reveal whether a group exists.
fn require_level(permissions: &Permissions, level: &Level) -> Result<(), RequestError> {
    if permissions.allows_level(level) {
        return Ok(());
    }
    let text = match level {
        Level::Group(_) => "this client may not export this group: ask the operator of this server to add it to the client's registration",
        Level::System | Level::AllPatients | Level::OnePatient(_) => {
            "this client may export single groups only: name one of them, as in [base]/Group/[id]/$export"
        }
    };
    Err(RequestError { status: 403, code: IssueCode::Forbidden, text: text.to_owned(), expression: None })
}

/// Fails if the request names a container that the client may not use.
fn require_container(permissions: &Permissions, request: &ExportRequest) -> Result<(), RequestError> {
    let Some(container) = &request.container else { return Ok(()) };
    let allowed = permissions.client.as_ref().and_then(|client| client.containers.as_ref());
    if allowed.is_none_or(|allowed| allowed.contains(container)) {
        return Ok(());
    }
    let text = "this client may not use this _container: ask the operator of this server to add it to the client's registration";
    Err(RequestError::new(403, IssueCode::Forbidden, Parameter::Container.as_str(), text))
}

/// Scopes that do not allow everything, together with what this deployment needs to enforce them.
struct EnforceableScopes<'a> {
    scopes: &'a Scopes,
    version: FhirVersion,
    now: Instant,
}

impl EnforceableScopes<'_> {
    /// Returns true if the scopes allow reading at least some resources of the type.
    fn allows_type(&self, kind: ResourceType) -> bool {
        self.scopes.type_filters(kind, self.version, self.now).is_some()
    }

    /// Iterates over the scope queries of the type, such as `Observation?code=1`.
    fn queries_for(&self, kind: ResourceType) -> impl Iterator<Item = String> {
        self.scopes.queries_for(kind).map(move |query| format!("{kind}?{query}"))
    }

    /// Fails if the scopes do not allow reading one of the types, which this parameter requests.
    fn require_types(&self, parameter: Parameter, kinds: impl IntoIterator<Item = ResourceType>) -> Result<(), RequestError> {
        let forbidden: BTreeSet<&str> = kinds.into_iter().filter(|kind| !self.allows_type(*kind)).map(ResourceType::as_str).collect();
        let Some(first) = forbidden.first() else { return Ok(()) };
        let mut names = forbidden.iter().take(MAX_TYPES_SHOWN).copied().collect::<Vec<_>>().join(", ");
        if forbidden.len() > MAX_TYPES_SHOWN {
            names = format!("{names} and {} more", forbidden.len() - MAX_TYPES_SHOWN);
        }
        let parameter = parameter.as_str();
        Err(RequestError::insufficient_scope(format!(
            "{parameter} requests {names}, which the scopes of this request do not allow reading: \
             remove it, or have scopes such as system/{first}.rs granted"
        )))
    }

    /// Returns all types that may be read. Fails if an export of this level cannot contain any of them.
    fn readable_types(&self, level: &Level) -> Result<BTreeSet<ResourceType>, RequestError> {
        let types: BTreeSet<ResourceType> = ResourceType::all().filter(|kind| self.allows_type(*kind)).collect();
        if types.iter().any(|kind| is_exportable(*kind, self.version, level)) {
            return Ok(types);
        }
        Err(RequestError::insufficient_scope(
            "the scopes of this request do not allow reading anything that this export contains: have scopes such as system/Patient.rs granted",
        ))
    }
}
