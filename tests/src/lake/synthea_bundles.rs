//! Bundles in the shape of Synthea's: hospitals and practitioners in files of their own, and a transaction for each patient, whose resources
//! refer to each other by `urn:uuid:` and to hospitals and practitioners by their identifiers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{LakeError, check_is_empty};

/// System of a practitioner's identifier.
const NPI: &str = "http://hl7.org/fhir/sid/us-npi";

/// System of the identifiers of hospitals and locations.
const SYNTHEA: &str = "https://github.com/synthetichealth/synthea";

/// Number of hospitals, and of practitioners.
const HOSPITALS: u64 = 3;

/// Encounters of each patient.
const ENCOUNTERS: u64 = 3;

/// Contents of a set of Bundles.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BundleCounts {
    /// Resources by type.
    pub resources: BTreeMap<&'static str, u64>,
    /// References by `urn:uuid:` or by identifier.
    pub references: u64,
}

/// Entries of one Bundle.
struct Entries<'c> {
    counts: &'c mut BundleCounts,
    entries: Vec<Value>,
}

impl Entries<'_> {
    /// Adds a resource.
    fn add(&mut self, kind: &'static str, id: &str, members: Value) {
        let mut resource = json!({ "resourceType": kind, "id": id });
        if let (Some(resource), Value::Object(members)) = (resource.as_object_mut(), members) {
            resource.extend(members);
        }
        *self.counts.resources.entry(kind).or_default() += 1;
        self.counts.references += count_references(&resource);
        self.entries
            .push(json!({ "fullUrl": format!("urn:uuid:{id}"), "resource": resource, "request": { "method": "POST", "url": kind } }));
    }

    /// Writes the Bundle as Synthea does, over several lines.
    fn write(self, path: &Path) -> Result<(), LakeError> {
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": self.entries });
        // The parser of numbers would drop the zero.
        let text = format!("{bundle:#}\n").replace("\"@1.10\"", "1.10");
        fs::write(path, text).map_err(LakeError::at(path))
    }
}

/// Counts references that have to be resolved.
fn count_references(value: &Value) -> u64 {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| {
                let is_resolved =
                    member.as_str().is_some_and(|text| name == "reference" && (text.starts_with("urn:uuid:") || text.contains('?')));
                u64::from(is_resolved) + count_references(member)
            })
            .sum(),
        Value::Array(items) => items.iter().map(count_references).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Returns a UUID made of numbers.
fn uuid(group: u64, number: u64) -> String {
    format!("{group:08x}-0000-4000-8000-{number:012x}")
}

/// Returns a reference to a full URL.
fn by_url(id: &str) -> Value {
    json!({ "reference": format!("urn:uuid:{id}") })
}

/// Returns a reference by an identifier.
fn by_identifier(kind: &str, system: &str, value: &str) -> Value {
    json!({ "reference": format!("{kind}?identifier={system}|{value}"), "display": "SAMPLE" })
}

/// Returns the value of a practitioner's identifier.
fn npi(hospital: u64) -> String {
    format!("99999{hospital:05}")
}

/// Writes Bundles of some patients into an empty folder. Returns what they contain.
pub fn write(dir: &Path, patients: u64) -> Result<BundleCounts, LakeError> {
    check_is_empty(dir)?;
    let mut counts = BundleCounts::default();
    let mut hospitals = Entries { counts: &mut counts, entries: Vec::new() };
    for hospital in 0..HOSPITALS {
        for (kind, group) in [("Organization", 1), ("Location", 2)] {
            let id = uuid(group, hospital);
            hospitals.add(kind, &id, json!({ "identifier": [{ "system": SYNTHEA, "value": id }], "name": "SAMPLE HOSPITAL" }));
        }
    }
    hospitals.write(&dir.join("hospitalInformation1.json"))?;
    let mut practitioners = Entries { counts: &mut counts, entries: Vec::new() };
    for hospital in 0..HOSPITALS {
        practitioners.add("Practitioner", &uuid(3, hospital), json!({ "identifier": [{ "system": NPI, "value": npi(hospital) }] }));
        let role = json!({
            "practitioner": by_identifier("Practitioner", NPI, &npi(hospital)),
            "organization": by_identifier("Organization", SYNTHEA, &uuid(1, hospital)),
            "location": [by_identifier("Location", SYNTHEA, &uuid(2, hospital))],
        });
        practitioners.add("PractitionerRole", &uuid(4, hospital), role);
    }
    practitioners.write(&dir.join("practitionerInformation1.json"))?;
    for patient in 0..patients {
        write_patient(dir, patient, &mut counts)?;
    }
    Ok(counts)
}

/// Writes the Bundle of one patient.
fn write_patient(dir: &Path, patient: u64, counts: &mut BundleCounts) -> Result<(), LakeError> {
    let mut bundle = Entries { counts, entries: Vec::new() };
    let id = uuid(10, patient);
    bundle.add("Patient", &id, json!({ "identifier": [{ "system": SYNTHEA, "value": id }], "gender": "unknown" }));
    for encounter in 0..ENCOUNTERS {
        let (number, hospital) = (patient * ENCOUNTERS + encounter, (patient + encounter) % HOSPITALS);
        let visit = uuid(11, number);
        let members = json!({
            "status": "finished",
            "subject": by_url(&id),
            "participant": [{ "individual": by_identifier("Practitioner", NPI, &npi(hospital)) }],
            "serviceProvider": by_identifier("Organization", SYNTHEA, &uuid(1, hospital)),
            "location": [{ "location": by_identifier("Location", SYNTHEA, &uuid(2, hospital)) }],
        });
        bundle.add("Encounter", &visit, members);
        let observation = json!({
            "status": "final",
            "subject": by_url(&id),
            "encounter": by_url(&visit),
            "valueQuantity": { "value": "@1.10", "unit": "kg\n\"}" },
        });
        bundle.add("Observation", &uuid(12, number), observation);
        let claim = json!({ "status": "active", "patient": by_url(&id), "item": [{ "sequence": 1, "encounter": [by_url(&visit)] }] });
        bundle.add("Claim", &uuid(13, number), claim);
        let benefit = json!({
            "contained": [{ "resourceType": "ServiceRequest", "id": "referral", "subject": by_url(&id) }],
            "referral": { "reference": "#referral" },
            "claim": by_url(&uuid(13, number)),
            "patient": by_url(&id),
        });
        bundle.add("ExplanationOfBenefit", &uuid(14, number), benefit);
    }
    bundle.write(&dir.join(format!("patient-{patient}.json")))
}
