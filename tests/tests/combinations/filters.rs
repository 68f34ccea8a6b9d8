//! The filters of the test, each said twice: as a client asks for it, and as a plain condition on a tree.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

use crate::Result;
use crate::oracle::{Lake, Line, walk};

pub(crate) struct Filter {
    pub(crate) name: &'static str,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) keeps: Box<dyn Fn(&Line) -> bool>,
    /// `patient`.
    pub(crate) patients: Option<BTreeSet<String>>,
    /// `_elements`: the root members that are left, besides those that always stay.
    elements: Option<&'static [&'static str]>,
}

/// What every resource keeps under `_elements`, and what R4 makes mandatory in the types that the test asks for.
const ALWAYS: [&str; 3] = ["resourceType", "id", "meta"];
const MANDATORY: [(&str, &[&str]); 3] = [("Observation", &["status", "code"]), ("Patient", &[]), ("Encounter", &["status", "class"])];

impl Filter {
    /// A line of the lake as this filter leaves it, comparable.
    pub(crate) fn shown(&self, line: &Line) -> String {
        let Some(elements) = self.elements else { return line.text.clone() };
        let mandatory = MANDATORY.iter().find(|(kind, _)| *kind == line.kind).map(|(_, names)| *names).unwrap_or_default();
        let stays = |name: &str| {
            let plain = name.strip_prefix('_').unwrap_or(name);
            ALWAYS.contains(&name) || mandatory.contains(&plain) || elements.iter().any(|element| is_element(plain, element))
        };
        let members = line.tree.as_object().cloned().unwrap_or_default();
        without_mark(members.into_iter().filter(|(name, _)| stays(name)).collect())
    }

    /// A line of the export, comparable; one that was rewritten must say so.
    pub(crate) fn read(&self, line: &str) -> Result<String> {
        if self.elements.is_none() {
            return Ok(line.to_owned());
        }
        let Value::Object(members) = serde_json::from_str(line)? else { return Err("no object".into()) };
        let mut tags = Vec::new();
        walk(members.get("meta").ok_or("no meta")?, &["tag", "code"], &mut tags);
        if !tags.iter().any(|tag| *tag == "SUBSETTED") {
            return Err(format!("a rewritten line without SUBSETTED: {line}").into());
        }
        Ok(without_mark(members))
    }
}

/// `value` stands for valueQuantity and its like.
fn is_element(member: &str, element: &str) -> bool {
    member == element || (element == "value" && member.strip_prefix("value").is_some_and(|rest| rest.starts_with(char::is_uppercase)))
}

fn without_mark(mut members: Map<String, Value>) -> String {
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

fn filter(name: &'static str, query: &[(&'static str, &str)], keeps: impl Fn(&Line) -> bool + 'static) -> Filter {
    let query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Filter { name, query, keeps: Box::new(keeps), patients: None, elements: None }
}

/// Lines of `kind` must fulfil the condition; lines of other types pass.
fn of_type(kind: &'static str, keeps: impl Fn(&Value) -> bool + 'static) -> impl Fn(&Line) -> bool + 'static {
    move |line| line.kind != kind || keeps(&line.tree)
}

fn has(tree: &Value, path: &str, condition: impl Fn(&Value) -> bool) -> bool {
    let mut found = Vec::new();
    walk(tree, &path.split('.').collect::<Vec<_>>(), &mut found);
    found.into_iter().any(condition)
}

fn is(tree: &Value, path: &str, word: &str) -> bool {
    has(tree, path, |value| value == word)
}

fn moment(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

pub(crate) fn filters(lake: &Lake) -> Vec<Filter> {
    let some_patients: BTreeSet<String> =
        lake.lines.iter().filter(|line| line.kind == "Patient").map(|line| line.id.clone()).step_by(5).take(1).collect();
    let named: Vec<(&str, String)> = some_patients.iter().map(|id| ("patient", format!("Patient/{id}"))).collect();
    let middle = datetime!(2023-06-01 00:00 UTC);
    let late = datetime!(2024-06-01 00:00 UTC);
    vec![
        filter("nothing", &[], |_| true),
        filter("_type", &[("_type", "Patient,Observation,Provenance")], |line| {
            matches!(&*line.kind, "Patient" | "Observation" | "Provenance")
        }),
        filter("_since", &[("_since", "2023-06-01T00:00:00Z")], move |line| line.changed > middle),
        filter("_until", &[("_until", "2023-06")], move |line| line.changed < middle),
        filter("_since and _until", &[("_since", "2023-06-01"), ("_until", "2024-06-01T02:00:00+02:00")], move |line| {
            line.changed > middle && line.changed < late
        }),
        filter("_since and _type", &[("_since", "2023-06-01T00:00:00Z"), ("_type", "Encounter"), ("_type", "Condition")], move |line| {
            line.changed > middle && matches!(&*line.kind, "Encounter" | "Condition")
        }),
        filter(
            "a token",
            &[("_typeFilter", "Observation?category=laboratory")],
            of_type("Observation", |tree| is(tree, "category.coding.code", "laboratory")),
        ),
        filter(
            "a token with its system",
            &[("_typeFilter", "Observation?code=http://loinc.org|8302-2,http://loinc.org|29463-7"), ("_type", "Observation")],
            |line| {
                line.kind == "Observation"
                    && has(&line.tree, "code.coding", |coding| {
                        coding.get("system").is_some_and(|system| system == "http://loinc.org")
                            && coding.get("code").is_some_and(|code| code == "8302-2" || code == "29463-7")
                    })
            },
        ),
        filter(
            "a date",
            &[("_typeFilter", "Observation?date=ge2018-01-01&date=lt2020")],
            of_type("Observation", |tree| {
                has(tree, "effectiveDateTime", |value| {
                    moment(value).is_some_and(|at| at >= datetime!(2018-01-01 00:00 UTC) && at < datetime!(2020-01-01 00:00 UTC))
                })
            }),
        ),
        filter(
            "a quantity",
            &[("_typeFilter", "Observation?value-quantity=gt100")],
            of_type("Observation", |tree| tree.pointer("/valueQuantity/value").and_then(Value::as_f64).is_some_and(|value| value > 100.0)),
        ),
        filter(
            "either of two queries",
            &[("_typeFilter", "Patient?gender=female"), ("_typeFilter", "Patient?birthdate=lt1980")],
            of_type("Patient", |tree| {
                is(tree, "gender", "female") || has(tree, "birthDate", |date| date.as_str().is_some_and(|date| date < "1980"))
            }),
        ),
        filter("queries in one value", &[("_typeFilter", "Patient?gender=male,Encounter?status=finished&class=AMB")], |line| match &*line
            .kind
        {
            "Patient" => is(&line.tree, "gender", "male"),
            "Encounter" => is(&line.tree, "status", "finished") && is(&line.tree, "class.code", "AMB"),
            _ => true,
        }),
        filter(
            "what is not so",
            &[("_typeFilter", "MedicationRequest?status:not=active")],
            of_type("MedicationRequest", |tree| !is(tree, "status", "active")),
        ),
        filter(
            "what is missing",
            &[("_typeFilter", "Condition?abatement-date:missing=true")],
            of_type("Condition", |tree| tree.get("abatementDateTime").is_none()),
        ),
        filter(
            "a folded prefix",
            &[("_typeFilter", "Patient?family=b")],
            of_type("Patient", |tree| {
                has(tree, "name.family", |name| name.as_str().is_some_and(|name| name.to_lowercase().starts_with('b')))
            }),
        ),
        Filter {
            elements: Some(&["gender", "value", "subject"]),
            ..filter("_elements", &[("_elements", "Patient.gender,value,subject"), ("_type", "Patient,Observation,Encounter")], |line| {
                matches!(&*line.kind, "Patient" | "Observation" | "Encounter")
            })
        },
        Filter { query: named, patients: Some(some_patients), ..filter("patient", &[], |_| true) },
    ]
}
