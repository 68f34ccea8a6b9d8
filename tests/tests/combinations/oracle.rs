//! Oracle: computes the expected lines of an export from the parsed JSON of the whole lake. Simple rather than fast.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Result;
use crate::filters::Filter;

/// Level of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Whole system.
    System,
    /// Compartments of all patients.
    AllPatients,
    /// Patients with these ids.
    Patients(BTreeSet<String>),
    /// Group with this id, and the ids of its members.
    Group(&'static str, BTreeSet<String>),
}

/// Line of the lake with one resource.
pub(crate) struct Line {
    /// JSON text.
    pub(crate) text: String,
    /// Parsed JSON.
    pub(crate) tree: Value,
    /// Resource type.
    pub(crate) resource_type: String,
    /// Resource id.
    pub(crate) id: String,
    /// `meta.lastUpdated`.
    pub(crate) changed: OffsetDateTime,
}

/// Parsed lake.
pub(crate) struct Lake {
    /// Lines of all files.
    pub(crate) lines: Vec<Line>,
    /// Ids of the patients in whose compartments a resource is, by its `Type/id`.
    compartments: BTreeMap<String, BTreeSet<String>>,
}

/// Elements that place a resource into a patient's compartment, from R4's CompartmentDefinition for the types in the lake of this test.
const COMPARTMENT: [(&str, &[&str]); 18] = [
    ("AllergyIntolerance", &["patient", "recorder", "asserter"]),
    ("CarePlan", &["subject", "activity.detail.performer"]),
    ("CareTeam", &["subject", "participant.member"]),
    ("Claim", &["patient", "payee.party"]),
    ("Condition", &["subject", "asserter"]),
    ("DiagnosticReport", &["subject"]),
    ("DocumentReference", &["subject", "author"]),
    ("Encounter", &["subject"]),
    ("ExplanationOfBenefit", &["patient", "payee.party"]),
    ("Goal", &["subject"]),
    ("Group", &["member.entity"]),
    ("ImagingStudy", &["subject"]),
    ("Immunization", &["patient"]),
    ("MedicationRequest", &["subject"]),
    ("Observation", &["subject", "performer"]),
    ("Patient", &["link.other"]),
    ("Procedure", &["subject", "performer.actor"]),
    ("Provenance", &["target"]),
];

/// Types that are in no patient's compartment.
const OUTSIDE: [&str; 4] = ["Organization", "Practitioner", "Location", "Medication"];

/// Parses all lines of the lake in `dir`.
pub(crate) fn lines(dir: &Path) -> Result<Vec<Line>> {
    let lines = headrace_tests::lake::lines(dir)?;
    lines
        .into_iter()
        .map(|line| {
            let text = String::from_utf8(line)?;
            let tree: Value = serde_json::from_str(&text)?;
            let member = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let changed = tree.pointer("/meta/lastUpdated").and_then(Value::as_str).ok_or("a line has no meta.lastUpdated")?;
            Ok(Line {
                resource_type: member("resourceType"),
                id: member("id"),
                changed: OffsetDateTime::parse(changed, &Rfc3339)?,
                text,
                tree,
            })
        })
        .collect()
}

impl Lake {
    /// Reads the lake in `dir` and determines the compartments of its resources. Fails if it contains types that the tables of this
    /// module do not list.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let lines = lines(dir)?;
        let mut compartments = BTreeMap::new();
        for line in &lines {
            let elements = COMPARTMENT.iter().find(|(resource_type, _)| *resource_type == line.resource_type);
            if elements.is_none() && !OUTSIDE.contains(&line.resource_type.as_str()) {
                return Err(format!("the compartment table of this test does not cover {}", line.resource_type).into());
            }
            let mut patients = BTreeSet::new();
            for path in elements.map(|(_, paths)| *paths).unwrap_or_default() {
                let mut found = Vec::new();
                walk(&line.tree, &path.split('.').collect::<Vec<_>>(), &mut found);
                let references = found.iter().filter_map(|value| value.get("reference")?.as_str());
                patients.extend(references.filter_map(|text| text.strip_prefix("Patient/")).map(str::to_owned));
            }
            if line.resource_type == "Patient" {
                patients.insert(line.id.clone());
            }
            compartments.insert(format!("{}/{}", line.resource_type, line.id), patients);
        }
        Ok(Self { lines, compartments })
    }

    /// Returns the lines that an export with this filter must hold.
    pub(crate) fn select(&self, scope: &Scope, filter: &Filter) -> Vec<&Line> {
        self.lines.iter().filter(|line| self.is_in(scope, filter, line) && (filter.matches)(line)).collect()
    }

    /// Returns true if the line belongs to the level, narrowed by the `patient` parameter.
    fn is_in(&self, scope: &Scope, filter: &Filter, line: &Line) -> bool {
        let narrowed = |all: &BTreeSet<String>| match &filter.patients {
            Some(named) => all.intersection(named).cloned().collect(),
            None => all.clone(),
        };
        let patient_ids = match scope {
            Scope::System => return true,
            // A Group names other patients, too, so an export of certain patients has none.
            Scope::Patients(_) if line.resource_type == "Group" => return false,
            Scope::AllPatients if line.resource_type == "Group" && filter.patients.is_some() => return false,
            Scope::AllPatients => filter.patients.clone(),
            Scope::Patients(all) => Some(narrowed(all)),
            // Members may be in other groups too, but those groups are not part of the export.
            Scope::Group(own, _) if line.resource_type == "Group" && line.id != *own => return false,
            Scope::Group(_, all) => Some(narrowed(all)),
        };
        let is_in_compartment = |key: &str| {
            let patients = self.compartments.get(key);
            patients.is_some_and(|patients| match &patient_ids {
                Some(patient_ids) => !patients.is_disjoint(patient_ids),
                None => !patients.is_empty(),
            })
        };
        let own = format!("{}/{}", line.resource_type, line.id);
        // The Bulk Data specification includes all Provenance whose target is in the compartment.
        let mut targets = Vec::new();
        if line.resource_type == "Provenance" {
            walk(&line.tree, &["target", "reference"], &mut targets);
        }
        is_in_compartment(&own) || targets.iter().filter_map(|target| target.as_str()).any(is_in_compartment)
    }
}

/// Collects every value at a path of member names. Arrays on the path are flattened.
pub(crate) fn walk<'a>(tree: &'a Value, path: &[&str], found: &mut Vec<&'a Value>) {
    match (tree, path.split_first()) {
        (Value::Array(items), _) => items.iter().for_each(|item| walk(item, path, found)),
        (_, None) => found.push(tree),
        (_, Some((name, rest))) => {
            if let Some(value) = tree.get(*name) {
                walk(value, rest, found);
            }
        }
    }
}
