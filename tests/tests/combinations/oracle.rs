//! What an export must hold: trees of every line, walked as the texts say. Slow on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Result;
use crate::filters::Filter;

/// Whose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    System,
    AllPatients,
    Patients(BTreeSet<String>),
    /// A group by its id, and who is in it.
    Group(&'static str, BTreeSet<String>),
}

/// One resource of the lake.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) tree: Value,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) changed: OffsetDateTime,
}

/// All of them, and in which patients' compartments each is.
pub(crate) struct Lake {
    pub(crate) lines: Vec<Line>,
    compartments: BTreeMap<String, BTreeSet<String>>,
}

/// FHIR R4, CompartmentDefinition Patient, read off its table for the types that the lakes of this test hold.
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

/// Types that no patient's compartment has.
const OUTSIDE: [&str; 4] = ["Organization", "Practitioner", "Location", "Medication"];

pub(crate) fn lines(dir: &Path) -> Result<Vec<Line>> {
    let lines = headrace_tests::lake::lines(dir)?;
    lines
        .into_iter()
        .map(|line| {
            let text = String::from_utf8(line)?;
            let tree: Value = serde_json::from_str(&text)?;
            let word = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let changed = tree.pointer("/meta/lastUpdated").and_then(Value::as_str).ok_or("no time")?;
            Ok(Line { kind: word("resourceType"), id: word("id"), changed: OffsetDateTime::parse(changed, &Rfc3339)?, text, tree })
        })
        .collect()
}

impl Lake {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let lines = lines(dir)?;
        let mut compartments = BTreeMap::new();
        for line in &lines {
            let known = COMPARTMENT.iter().find(|(kind, _)| *kind == line.kind);
            if known.is_none() && !OUTSIDE.contains(&line.kind.as_str()) {
                return Err(format!("the table of this test does not have {}", line.kind).into());
            }
            let mut patients = BTreeSet::new();
            for path in known.map(|(_, paths)| *paths).unwrap_or_default() {
                let mut found = Vec::new();
                walk(&line.tree, &path.split('.').collect::<Vec<_>>(), &mut found);
                let references = found.iter().filter_map(|value| value.get("reference")?.as_str());
                patients.extend(references.filter_map(|text| text.strip_prefix("Patient/")).map(str::to_owned));
            }
            if line.kind == "Patient" {
                patients.insert(line.id.clone());
            }
            compartments.insert(format!("{}/{}", line.kind, line.id), patients);
        }
        Ok(Self { lines, compartments })
    }

    /// The lines that an export with this filter holds.
    pub(crate) fn select(&self, scope: &Scope, filter: &Filter) -> Vec<&Line> {
        self.lines.iter().filter(|line| self.is_in(scope, filter, line) && (filter.keeps)(line)).collect()
    }

    fn is_in(&self, scope: &Scope, filter: &Filter, line: &Line) -> bool {
        let narrowed = |all: &BTreeSet<String>| match &filter.patients {
            Some(named) => all.intersection(named).cloned().collect(),
            None => all.clone(),
        };
        let wanted = match scope {
            Scope::System => return true,
            Scope::AllPatients => filter.patients.clone(),
            Scope::Patients(all) => Some(narrowed(all)),
            // Members are in other groups, too, and these are no part of this one's export.
            Scope::Group(own, _) if line.kind == "Group" && line.id != *own => return false,
            Scope::Group(_, all) => Some(narrowed(all)),
        };
        let fits = |key: &str| {
            let patients = self.compartments.get(key);
            patients.is_some_and(|patients| match &wanted {
                Some(wanted) => !patients.is_disjoint(wanted),
                None => !patients.is_empty(),
            })
        };
        let own = format!("{}/{}", line.kind, line.id);
        // Bulk Data: all Provenance whose target is in the compartment.
        let mut targets = Vec::new();
        if line.kind == "Provenance" {
            walk(&line.tree, &["target", "reference"], &mut targets);
        }
        fits(&own) || targets.iter().filter_map(|target| target.as_str()).any(fits)
    }
}

/// Every value at the end of a path of member names; arrays are walked through.
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
