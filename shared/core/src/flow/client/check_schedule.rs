//! Checks the definition of a schedule before it is stored, so that a mistake is an error for the person who makes it, and not for a later run.

use headrace_fhir::instant::Instant;

use crate::access::Permissions;
use crate::job::ExportError;
use crate::ports::{AccessStore, OutputStore};
use crate::request::{ExportPolicy, ExportRequest, Parameter, Preferences, RawKickOff, RequestError};
use crate::schedule::{MAX_KEPT, ScheduleDefinition};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::Caller;
use crate::vocab::outcome::IssueCode;

use super::kick_off::resolve_anonymization;

/// The parameters that an incremental schedule cannot have, because it sets the period of each run itself.
const PERIOD: [Parameter; 3] = [Parameter::Since, Parameter::Until, Parameter::Till];

/// Fails if a run of the schedule would be rejected at `now`, or if the definition contradicts itself. Conditions that only the server knows are
/// checked when a run starts.
///
/// * `output`: the destinations with the anonymization configurations. `None` if they cannot be reached: the configuration that the schedule
///   names is then checked when a run starts.
pub async fn check_schedule(
    definition: &ScheduleDefinition,
    output: Option<&impl OutputStore>,
    (policy, permissions): (&ExportPolicy, &Permissions),
    now: Millis,
) -> Result<(), ExportError> {
    let mut request = resolve_schedule(definition, policy, permissions, now)?;
    let Some(output) = output else { return Ok(()) };
    if definition.is_incremental {
        // Each run after the first one has it.
        request.since = Some(Instant::from_millis(now.0));
    }
    let own = permissions.client.as_ref().and_then(|client| client.destination.as_deref());
    resolve_anonymization((output, own), &mut request, (&policy.accepted_remarks, permissions)).await
}

/// Returns the request of a run, without the time at which it begins.
fn resolve_schedule(
    definition: &ScheduleDefinition,
    policy: &ExportPolicy,
    permissions: &Permissions,
    now: Millis,
) -> Result<ExportRequest, RequestError> {
    let parameters = definition.parameters.clone();
    if definition.is_incremental
        && let Some((name, _)) = parameters.iter().find(|(name, _)| PERIOD.iter().any(|period| period.as_str() == name))
    {
        let text = format!("each run of an incremental schedule exports what has changed since the last complete one: leave out {name}");
        return Err(RequestError::new(400, IssueCode::Invalid, name, text));
    }
    if definition.keep.is_some_and(|keep| !(1..=MAX_KEPT).contains(&keep)) {
        let text = format!("a schedule keeps 1 to {MAX_KEPT} results, or each until it expires");
        return Err(RequestError::new(400, IssueCode::Value, "keep", text));
    }
    let preferences = Preferences { is_lenient: definition.is_lenient, ..Preferences::default() };
    let raw = RawKickOff { level: definition.level.clone(), preferences, parameters };
    if raw.asks_for_estimate()? {
        let name = Parameter::Estimate.as_str();
        return Err(RequestError::new(400, IssueCode::Invalid, name, format!("a schedule starts exports: leave out {name}")));
    }
    ExportRequest::resolve(&raw, policy, permissions, now).map(|resolved| resolved.request)
}

/// The reason why a client cannot start exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableClient {
    /// A client that is not registered.
    Unknown,
    /// A client that is disabled.
    Disabled,
}

/// Reads the permissions that a client is registered for now, for a request of the operator.
pub async fn client_permissions(clients: &impl AccessStore, id: &Caller) -> Result<Result<Permissions, UnusableClient>, StoreError> {
    Ok(match clients.client(id).await? {
        None => Err(UnusableClient::Unknown),
        Some(client) if client.is_disabled => Err(UnusableClient::Disabled),
        Some(client) => Ok(Permissions { scopes: client.scopes.clone(), client: Some(client), is_operators_request: true }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Timing;
    use crate::vocab::level::Level;

    /// Returns what is wrong with an incremental schedule that has these parameters and keeps this number of results.
    fn problem(parameters: &[(&str, &str)], keep: Option<u32>) -> Option<(String, String)> {
        let now = Millis(1_769_846_400_000);
        let definition = ScheduleDefinition {
            client: None,
            timing: Timing::parse("P1D", None, now).unwrap(),
            level: Level::System,
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            is_lenient: false,
            is_incremental: true,
            keep,
            created_at: now,
        };
        let error = resolve_schedule(&definition, &ExportPolicy::default(), &Permissions::default(), now).err()?;
        Some((error.expression.unwrap_or_default(), error.text))
    }

    #[test]
    fn a_schedule_that_no_run_could_follow_is_rejected_with_the_parameter_at_fault() {
        assert_eq!(problem(&[("_type", "Patient"), ("_container", "nightly")], Some(1)), None);
        for (parameters, keep, expression, words) in [
            (&[("_since", "2026-01-01")][..], None, "_since", "leave out _since"),
            (&[("_until", "2026-01-01")], None, "_until", "leave out _until"),
            (&[("_till", "2026-01-01")], None, "_till", "leave out _till"),
            (&[], Some(0), "keep", "1 to 100"),
            (&[], Some(101), "keep", "1 to 100"),
            (&[("_estimate", "true")], None, "_estimate", "starts exports"),
            (&[("_type", "Nothing")], None, "_type", "Nothing"),
            (&[("_typeFilter", "Patient?nothing=1")], None, "_typeFilter", "nothing"),
        ] {
            let (found, text) = problem(parameters, keep).unwrap();
            assert!(found == expression && text.contains(words), "{parameters:?}: {found}: {text}");
        }
    }
}
