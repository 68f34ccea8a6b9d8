//! Restriction of a request to the anonymization configurations that the client's registration fixes.
//!
//! Such a client reads pseudonyms. It must not find out whose they are, so that it can neither leave the configuration out nor ask for
//! somebody by an original value: an export of the patient `p2` would tell which pseudonym is that of `p2`.

use super::raw::RawParameters;
use super::{ExportRequest, Parameter, RequestError};
use crate::access::{Client, FixedConfigurations, Permissions};
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// The parameters that a client with fixed configurations may send. Parameters that are not in this table are refused, because they select
/// resources by their original values: `patient` and `_typeFilter` by any of them, `_since` and `_until` by the time of a change,
/// `includeAssociatedData` by deletion and by the targets of a Provenance.
const ACCEPTED: &[Parameter] = &[
    // Whole types and elements, whoever they are about. Elements are chosen from the result of the de-identification.
    Parameter::Type,
    Parameter::Elements,
    // The configuration.
    Parameter::AnonymizationConfig,
    Parameter::AnonymizationConfigEtag,
    // The form, the place and the protection of the files. The blocks of patients are in an order that a secret determines.
    Parameter::OrganizeOutputBy,
    Parameter::AllowPartialManifests,
    Parameter::OutputFormat,
    Parameter::Container,
    Parameter::Format,
    Parameter::EncryptionKey,
    // Without effect on what is exported. An estimate has numbers of an export that may be started.
    Parameter::MaxCount,
    Parameter::IsParallel,
    Parameter::Estimate,
];

impl ExportRequest {
    /// Returns true if a client with these permissions may start an export that selects like this one. An export that the client started before
    /// its configurations were fixed may tell whose pseudonyms it has.
    pub fn has_allowed_selection(&self, permissions: &Permissions) -> bool {
        if permissions.may_select_by_values() {
            return true;
        }
        let has_queries_of = |client: &Client| {
            let is_equal = |kind| self.scope_queries_for(kind).eq(client.scopes.queries_for(kind));
            self.exported_types().into_iter().all(is_equal)
        };
        require_unselective_level(permissions, &self.level).is_ok()
            && self.selecting_parameters().all(|parameter| ACCEPTED.contains(&parameter))
            && permissions.client.as_ref().is_none_or(has_queries_of)
    }

    /// Iterates over the parameters of the request that restrict the exported resources.
    fn selecting_parameters(&self) -> impl Iterator<Item = Parameter> {
        let parameters = [
            (Parameter::Type, self.types.is_some()),
            (Parameter::TypeFilter, !self.type_filters.is_empty()),
            (Parameter::Since, self.since.is_some()),
            (Parameter::Until, self.until.is_some()),
            (Parameter::Patient, self.patients.is_some()),
            (Parameter::IncludeAssociatedData, !self.associated_data.is_empty()),
        ];
        parameters.into_iter().filter(|(_, is_present)| *is_present).map(|(parameter, _)| parameter)
    }
}

/// Fails if the level or a parameter selects by values of the lake, and the client may not do so.
///
/// The error does not depend on the value, so that it reveals nothing about the lake.
pub(super) fn require_no_selection(permissions: &Permissions, level: &Level, raw: &RawParameters<'_>) -> Result<(), RequestError> {
    if permissions.may_select_by_values() {
        return Ok(());
    }
    require_unselective_level(permissions, level)?;
    let Some(refused) = raw.parameters().find(|parameter| !ACCEPTED.contains(parameter)) else { return Ok(()) };
    let accepted = ACCEPTED.iter().map(|parameter| parameter.as_str()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "this client exports de-identified data, and {} selects by original values: remove it; the parameters of this client are {accepted}",
        refused.as_str()
    );
    Err(forbidden(refused, text))
}

/// Fails for an export of one patient, and of a group that the registration does not name.
fn require_unselective_level(permissions: &Permissions, level: &Level) -> Result<(), RequestError> {
    let names_groups = permissions.client.as_ref().is_some_and(|client| client.groups.is_some());
    let text = match level {
        Level::System | Level::AllPatients => return Ok(()),
        // Groups that the registration does not name are rejected with those of other clients.
        Level::Group(_) if names_groups => return Ok(()),
        Level::Group(_) => {
            "this client exports de-identified data, and a group selects by original values: ask the operator of this server to add the \
             group to the client's registration"
        }
        Level::OnePatient(_) => {
            "this client exports de-identified data, and may not select a patient: export all patients, as in [base]/Patient/$export"
        }
    };
    Err(RequestError { status: 403, code: IssueCode::Forbidden, text: text.to_owned(), expression: None })
}

/// Fails if the request does not use one of the configurations that the registration fixes. Adds the entity tag that the registration demands
/// of the file.
pub(super) fn require_fixed_configuration(permissions: &Permissions, request: &mut ExportRequest) -> Result<(), RequestError> {
    let Some(fixed) = permissions.fixed_configurations() else { return Ok(()) };
    let Some(requested) = request.anonymization.as_mut() else {
        return Err(wrong_configuration("_anonymizationConfig is missing", fixed));
    };
    let fixed_etag = fixed.etag(&requested.name).map(str::to_owned);
    // Without an ETag in the request, that of the registration applies.
    let etag = requested.etag.take().or_else(|| fixed_etag.clone());
    if fixed.allow(&requested.name, etag.as_deref()) {
        requested.etag = etag;
        return Ok(());
    }
    if fixed_etag.is_none() {
        return Err(wrong_configuration("_anonymizationConfig names another configuration", fixed));
    }
    let text = "this client may use the configuration only with the ETag in its registration: leave _anonymizationConfigEtag out, or ask the \
                operator of this server";
    Err(forbidden(Parameter::AnonymizationConfigEtag, text.to_owned()))
}

/// Fails if the scopes of the credential restrict a type by other queries than the registration does: a narrower query selects by original
/// values, as `_typeFilter` does.
pub(super) fn require_registered_queries(permissions: &Permissions, request: &ExportRequest) -> Result<(), RequestError> {
    let Some(client) = permissions.client.as_ref().filter(|_| !permissions.may_select_by_values()) else { return Ok(()) };
    let differs = |kind| !permissions.scopes.queries_for(kind).eq(client.scopes.queries_for(kind));
    let Some(kind) = request.exported_types().into_iter().find(|kind| differs(*kind)) else { return Ok(()) };
    Err(RequestError::insufficient_scope(format!(
        "this client exports de-identified data, and a query in a scope selects by original values: have the scope of {kind} granted with the \
         queries of the client's registration, and no others"
    )))
}

/// Creates the error for a request without the configuration that the registration demands.
fn wrong_configuration(problem: &str, fixed: &FixedConfigurations) -> RequestError {
    let names = fixed.names();
    let text = format!("{problem}: this client may export de-identified data only, with _container and one of its configurations: {names}");
    forbidden(Parameter::AnonymizationConfig, text)
}

/// Creates the error for a parameter that the client may not send, or not with this value.
fn forbidden(parameter: Parameter, text: String) -> RequestError {
    RequestError::new(403, IssueCode::Forbidden, parameter.as_str(), text)
}
