//! The body of a request that adds or changes a schedule.

use headrace_core::access::{InvalidClientId, has_client_id_form};
use headrace_core::request::{RequestError, is_resource_id};
use headrace_core::schedule::{InvalidTiming, ScheduleDefinition, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use headrace_fhir::definitions::FhirVersion;
use serde::Deserialize;

use crate::cli::{ExportLevel, non_empty};

/// A schedule as the page describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScheduleBody {
    /// The name of a new schedule.
    #[serde(default)]
    pub(super) name: String,
    /// The times: a cron expression or an interval.
    every: String,
    /// The time zone. Empty for the default, and for an interval.
    #[serde(default)]
    zone: Option<String>,
    /// The client that owns the exports.
    #[serde(default)]
    client: Option<String>,
    /// The level, as the command line takes it.
    level: String,
    /// The parameters of the kick-off.
    parameters: Vec<(String, String)>,
    /// True if unsupported parameters are ignored.
    #[serde(default)]
    is_lenient: bool,
    /// True if a run exports what has changed since the last complete run.
    #[serde(default)]
    is_incremental: bool,
    /// The number of complete results that are kept.
    #[serde(default)]
    keep: Option<u32>,
    /// The FHIR version of the server, as the page knows it.
    #[serde(default)]
    fhir_version: String,
}

impl ScheduleBody {
    /// Returns the FHIR version of the server.
    pub(super) fn version(&self) -> FhirVersion {
        FhirVersion::parse(&self.fhir_version).unwrap_or_default()
    }

    /// Returns the definition of the schedule, with the parameter at fault if there is none. `created_at` is the time at which the schedule was
    /// added.
    pub(super) fn definition(self, created_at: Millis, now: Millis) -> Result<ScheduleDefinition, RequestError> {
        let timing = Timing::parse(&self.every, non_empty(&self.zone).map(str::trim), now).map_err(|error| invalid_timing(&error))?;
        let level: ExportLevel = self.level.parse().map_err(|text: String| invalid("level", text))?;
        check_id(&level)?;
        let client = |id: &str| has_client_id_form(id).then(|| Caller(id.to_owned())).ok_or(InvalidClientId::Form);
        Ok(ScheduleDefinition {
            client: non_empty(&self.client).map(client).transpose().map_err(|error| invalid("client", error.to_string()))?,
            timing,
            level: (&level).into(),
            parameters: self.parameters,
            is_lenient: self.is_lenient,
            is_incremental: self.is_incremental,
            keep: self.keep,
            created_at,
        })
    }
}

/// Fails if the level names a patient or a group with an invalid id.
fn check_id(level: &ExportLevel) -> Result<(), RequestError> {
    match level {
        ExportLevel::Patient(id) | ExportLevel::Group(id) if !is_resource_id(id) => {
            Err(invalid("level", "the id of a patient or group has 1 to 64 letters, digits, hyphens, dots and underscores"))
        }
        ExportLevel::System | ExportLevel::AllPatients | ExportLevel::Patient(_) | ExportLevel::Group(_) => Ok(()),
    }
}

/// Creates the error about a value.
pub(super) fn invalid(field: &str, text: impl Into<String>) -> RequestError {
    RequestError::new(400, IssueCode::Value, field, text)
}

/// Creates the error about times that a schedule cannot have.
fn invalid_timing(error: &InvalidTiming) -> RequestError {
    let field = match error {
        InvalidTiming::Zone(_) | InvalidTiming::IntervalWithZone => "zone",
        InvalidTiming::Unknown(_)
        | InvalidTiming::Fields(_)
        | InvalidTiming::Expression(_)
        | InvalidTiming::Never(_)
        | InvalidTiming::Interval(_) => "every",
    };
    invalid(field, error.to_string())
}

#[cfg(test)]
mod tests {
    use headrace_core::vocab::level::Level;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Millis = Millis(1_769_846_400_000);

    /// Returns the definition of a body with these members instead of valid ones.
    fn definition(members: &Value) -> Result<ScheduleDefinition, RequestError> {
        let mut body =
            json!({ "name": "nightly", "every": "cron(0 2 * * *)", "zone": "Europe/Berlin", "level": "group:7", "parameters": [] });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value::<ScheduleBody>(body).unwrap().definition(Millis(1), NOW)
    }

    #[test]
    fn a_body_becomes_a_definition() {
        let members = json!({ "parameters": [["_type", "Patient"]], "isIncremental": true, "keep": 7, "client": "lab" });
        let definition = definition(&members).unwrap();
        assert_eq!((definition.timing.every().as_str(), definition.timing.zone()), ("cron(0 2 * * *)", Some("Europe/Berlin")));
        assert_eq!((definition.level, definition.client), (Level::Group("7".to_owned()), Some(Caller("lab".to_owned()))));
        assert_eq!(definition.parameters, [("_type".to_owned(), "Patient".to_owned())]);
        assert!(definition.is_incremental && !definition.is_lenient);
        assert_eq!((definition.keep, definition.created_at), (Some(7), Millis(1)));
    }

    #[test]
    fn an_error_names_the_field_at_fault() {
        for (members, field, words) in [
            (json!({ "every": "cron(0 0 30 2 *)" }), "every", "never fires"),
            (json!({ "every": "daily" }), "every", "PT6H"),
            (json!({ "every": "PT1S", "zone": "" }), "every", "a minute"),
            (json!({ "zone": "Mars/Olympus" }), "zone", "Mars/Olympus"),
            (json!({ "every": "PT6H" }), "zone", "no time zone"),
            (json!({ "level": "everything" }), "level", "group:ID"),
            (json!({ "level": "group:../x" }), "level", "1 to 64 letters"),
            (json!({ "client": "a b" }), "client", "without spaces"),
        ] {
            let error = definition(&members).unwrap_err();
            assert_eq!((error.status, error.expression.as_deref()), (400, Some(field)), "{members}");
            assert!(error.text.contains(words), "{members}: {}", error.text);
        }
    }
}
