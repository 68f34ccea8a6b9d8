//! Filters of the test, each in two forms: as the query of a client, and as a plain condition on the JSON of a resource.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

use crate::Result;
use crate::oracle::{Lake, Line, walk};

/// Name of the filter that keeps everything.
pub(crate) const NO_FILTER: &str = "no filter";

/// Filter of an export and its expected effect.
pub(crate) struct Filter {
    /// Name in error messages.
    pub(crate) name: &'static str,
    /// Query parameters of the kick-off.
    pub(crate) query: Vec<(&'static str, String)>,
    /// Condition on a resource.
    pub(crate) matches: Box<dyn Fn(&Line) -> bool>,
    /// Ids in the `patient` parameter.
    pub(crate) patients: Option<BTreeSet<String>>,
    /// Root elements in the `_elements` parameter, besides those that always stay.
    elements: Option<&'static [&'static str]>,
}

/// Elements that every resource keeps under `_elements`.
const ALWAYS_INCLUDED: [&str; 3] = ["resourceType", "id", "meta"];

/// Mandatory elements of R4, which are kept under `_elements`, for the types that the test exports.
const MANDATORY: [(&str, &[&str]); 3] = [("Observation", &["status", "code"]), ("Patient", &[]), ("Encounter", &["status", "class"])];

impl Filter {
    /// Returns the expected export of a line of the lake, in comparable form.
    pub(crate) fn expected_text(&self, line: &Line) -> String {
        let Some(elements) = self.elements else { return line.text.clone() };
        let mandatory =
            MANDATORY.iter().find(|(resource_type, _)| *resource_type == line.resource_type).map(|(_, names)| *names).unwrap_or_default();
        let is_kept = |name: &str| {
            let plain = name.strip_prefix('_').unwrap_or(name);
            ALWAYS_INCLUDED.contains(&name) || mandatory.contains(&plain) || elements.iter().any(|element| is_element(plain, element))
        };
        let members = line.tree.as_object().cloned().unwrap_or_default();
        without_subsetted_tag(members.into_iter().filter(|(name, _)| is_kept(name)).collect())
    }

    /// Returns an exported line in comparable form.
    ///
    /// # Errors
    ///
    /// If a line that `_elements` rewrote has no SUBSETTED tag.
    pub(crate) fn exported_text(&self, line: &str) -> Result<String> {
        if self.elements.is_none() {
            return Ok(line.to_owned());
        }
        let Value::Object(members) = serde_json::from_str(line)? else { return Err("the line is not a JSON object".into()) };
        let mut tags = Vec::new();
        walk(members.get("meta").ok_or("a reduced resource without meta")?, &["tag", "code"], &mut tags);
        if !tags.iter().any(|tag| *tag == "SUBSETTED") {
            return Err(format!("a rewritten line has no SUBSETTED tag: {line}").into());
        }
        Ok(without_subsetted_tag(members))
    }
}

/// Returns true if a JSON member belongs to the element. Element `value` has members such as `valueQuantity`.
fn is_element(member: &str, element: &str) -> bool {
    member == element || (element == "value" && member.strip_prefix("value").is_some_and(|rest| rest.starts_with(char::is_uppercase)))
}

/// Removes the SUBSETTED tag and returns the rest as text.
fn without_subsetted_tag(mut members: Map<String, Value>) -> String {
    if let Some(tags) = members.get_mut("meta").and_then(|meta| meta.get_mut("tag")).and_then(Value::as_array_mut) {
        tags.retain(|tag| tag.get("code").is_none_or(|code| code != "SUBSETTED"));
    }
    if let Some(Value::Object(meta)) = members.get_mut("meta")
        && meta.get("tag").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        meta.remove("tag");
    }
    Value::Object(members).to_string()
}

/// Creates a filter by a condition.
fn filter(name: &'static str, query: &[(&'static str, &str)], matches: impl Fn(&Line) -> bool + 'static) -> Filter {
    let query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Filter { name, query, matches: Box::new(matches), patients: None, elements: None }
}

/// Builds a condition on lines of one type. Lines of other types match.
fn if_type(resource_type: &'static str, matches: impl Fn(&Value) -> bool + 'static) -> impl Fn(&Line) -> bool + 'static {
    move |line| line.resource_type != resource_type || matches(&line.tree)
}

/// Returns true if any value at the path meets the condition.
fn any_value(tree: &Value, path: &str, condition: impl Fn(&Value) -> bool) -> bool {
    let mut found = Vec::new();
    walk(tree, &path.split('.').collect::<Vec<_>>(), &mut found);
    found.into_iter().any(condition)
}

/// Returns true if any value at the path equals the text.
fn equals(tree: &Value, path: &str, text: &str) -> bool {
    any_value(tree, path, |value| value == text)
}

/// Parses an instant.
fn parse_instant(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

/// Returns the filters to test with this lake.
pub(crate) fn filters(lake: &Lake) -> Vec<Filter> {
    let some_patients: BTreeSet<String> =
        lake.lines.iter().filter(|line| line.resource_type == "Patient").map(|line| line.id.clone()).step_by(5).take(1).collect();
    let patient_query: Vec<(&str, String)> = some_patients.iter().map(|id| ("patient", format!("Patient/{id}"))).collect();
    let middle = datetime!(2023-06-01 00:00 UTC);
    let late = datetime!(2024-06-01 00:00 UTC);
    vec![
        filter(NO_FILTER, &[], |_| true),
        filter("_type", &[("_type", "Patient,Observation,Provenance")], |line| {
            matches!(&*line.resource_type, "Patient" | "Observation" | "Provenance")
        }),
        filter("_since", &[("_since", "2023-06-01T00:00:00Z")], move |line| line.changed > middle),
        filter("_until", &[("_until", "2023-06")], move |line| line.changed < middle),
        filter("_since and _until", &[("_since", "2023-06-01"), ("_until", "2024-06-01T02:00:00+02:00")], move |line| {
            line.changed > middle && line.changed < late
        }),
        filter("_since and _type", &[("_since", "2023-06-01T00:00:00Z"), ("_type", "Encounter"), ("_type", "Condition")], move |line| {
            line.changed > middle && matches!(&*line.resource_type, "Encounter" | "Condition")
        }),
        filter(
            "a token",
            &[("_typeFilter", "Observation?category=laboratory")],
            if_type("Observation", |tree| equals(tree, "category.coding.code", "laboratory")),
        ),
        filter(
            "a token with its system",
            &[("_typeFilter", "Observation?code=http://loinc.org|8302-2,http://loinc.org|29463-7"), ("_type", "Observation")],
            |line| {
                line.resource_type == "Observation"
                    && any_value(&line.tree, "code.coding", |coding| {
                        coding.get("system").is_some_and(|system| system == "http://loinc.org")
                            && coding.get("code").is_some_and(|code| code == "8302-2" || code == "29463-7")
                    })
            },
        ),
        filter(
            "a date",
            &[("_typeFilter", "Observation?date=ge2018-01-01&date=lt2020")],
            if_type("Observation", |tree| {
                any_value(tree, "effectiveDateTime", |value| {
                    parse_instant(value).is_some_and(|at| at >= datetime!(2018-01-01 00:00 UTC) && at < datetime!(2020-01-01 00:00 UTC))
                })
            }),
        ),
        filter(
            "a quantity",
            &[("_typeFilter", "Observation?value-quantity=gt100")],
            if_type("Observation", |tree| tree.pointer("/valueQuantity/value").and_then(Value::as_f64).is_some_and(|value| value > 100.0)),
        ),
        filter(
            "either of two queries",
            &[("_typeFilter", "Patient?gender=female"), ("_typeFilter", "Patient?birthdate=lt1980")],
            if_type("Patient", |tree| {
                equals(tree, "gender", "female") || any_value(tree, "birthDate", |date| date.as_str().is_some_and(|date| date < "1980"))
            }),
        ),
        filter("two queries in one parameter", &[("_typeFilter", "Patient?gender=male,Encounter?status=finished&class=AMB")], |line| {
            match &*line.resource_type {
                "Patient" => equals(&line.tree, "gender", "male"),
                "Encounter" => equals(&line.tree, "status", "finished") && equals(&line.tree, "class.code", "AMB"),
                _ => true,
            }
        }),
        filter(
            "a negated token",
            &[("_typeFilter", "MedicationRequest?status:not=active")],
            if_type("MedicationRequest", |tree| !equals(tree, "status", "active")),
        ),
        filter(
            "a missing date",
            &[("_typeFilter", "Condition?abatement-date:missing=true")],
            if_type("Condition", |tree| tree.get("abatementDateTime").is_none()),
        ),
        filter(
            "a prefix in other case",
            &[("_typeFilter", "Patient?family=b")],
            if_type("Patient", |tree| {
                any_value(tree, "name.family", |name| name.as_str().is_some_and(|name| name.to_lowercase().starts_with('b')))
            }),
        ),
        Filter {
            elements: Some(&["gender", "value", "subject"]),
            ..filter("_elements", &[("_elements", "Patient.gender,value,subject"), ("_type", "Patient,Observation,Encounter")], |line| {
                matches!(&*line.resource_type, "Patient" | "Observation" | "Encounter")
            })
        },
        Filter { query: patient_query, patients: Some(some_patients), ..filter("patient", &[], |_| true) },
    ]
}
