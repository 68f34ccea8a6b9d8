//! The samples let nothing through that tells who or where somebody is, or when the export was made.

use std::collections::BTreeMap;

use super::*;
use crate::definitions::{MemberDefinition, TypeDefinition, TypeDefinitions, TypeKind};

/// The texts that a sample keeps, as pairs of a type and an element: names of codes, units and systems, and measured curves.
const KEPT: [(&str, &str); 7] = [
    ("Coding", "display"),
    ("Coding", "system"),
    ("Identifier", "system"),
    ("Quantity", "system"),
    ("Quantity", "unit"),
    ("Reference", "type"),
    ("SampledData", "data"),
];

/// The paths that Microsoft's sample keeps on purpose: an organization is not a person.
const KEPT_OF_ORGANIZATIONS: [&str; 5] = [
    "Organization.address",
    "Organization.identifier",
    "Organization.telecom",
    "OrganizationAffiliation.identifier",
    "OrganizationAffiliation.telecom",
];

/// The largest number of data types inside each other, such as an Identifier in a Reference.
const MAX_NESTED_TYPES: usize = 2;

/// The length of `zq000001x`.
const TOKEN_CHARS: usize = 9;

/// A generator of resources in which each text is a token of its own.
struct TokenSeeder {
    definitions: &'static TypeDefinitions,
    /// The number of the type that each choice of types has.
    choice: usize,
    /// The largest number of types of a choice.
    max_choices: usize,
    /// The path of each token that must not be exported.
    paths: BTreeMap<String, String>,
    count: usize,
}

impl TokenSeeder {
    /// Creates the members of an element. `open` are the types around it and its own.
    fn object(&mut self, definition: TypeDefinition, path: &str, open: &mut Vec<TypeDefinition>) -> serde_json::Map<String, Value> {
        let mut elements = BTreeMap::<&str, Vec<MemberDefinition>>::new();
        for member in self.definitions.members(definition) {
            if !member.is_resource && !matches!(member.element, "extension" | "modifierExtension") {
                elements.entry(member.element).or_default().push(member);
            }
        }
        let mut object = serde_json::Map::new();
        for choices in elements.values() {
            self.max_choices = self.max_choices.max(choices.len());
            let member = choices[self.choice % choices.len()];
            let path = format!("{path}.{}", member.name);
            if let Some(value) = self.value(definition, member, &path, open) {
                object.insert(member.name.to_owned(), if member.is_list { Value::Array(vec![value]) } else { value });
            }
        }
        object
    }

    /// Creates the value of a member; `None` if it has no texts.
    fn value(&mut self, owner: TypeDefinition, member: MemberDefinition, path: &str, open: &mut Vec<TypeDefinition>) -> Option<Value> {
        match self.definitions.kind(member.definition) {
            TypeKind::Primitive => self.primitive(owner, member, path),
            TypeKind::Resource => None,
            TypeKind::Complex | TypeKind::Backbone => {
                open.push(member.definition);
                let is_new = !open[..open.len() - 1].contains(&member.definition);
                let nested = open.iter().filter(|definition| self.definitions.kind(**definition) == TypeKind::Complex).count();
                let object =
                    if is_new && nested <= MAX_NESTED_TYPES { self.object(member.definition, path, open) } else { serde_json::Map::new() };
                open.pop();
                (!object.is_empty()).then_some(Value::Object(object))
            }
        }
    }

    /// Creates a text; `None` for a type without texts that people or systems write about somebody.
    fn primitive(&mut self, owner: TypeDefinition, member: MemberDefinition, path: &str) -> Option<Value> {
        let type_name = self.definitions.name(member.definition);
        if !matches!(type_name, "string" | "markdown" | "xhtml" | "base64Binary" | "id" | "uri" | "url" | "oid" | "uuid") {
            return None;
        }
        self.count += 1;
        let token = format!("zq{:06}x", self.count);
        let owner_name = self.definitions.name(owner);
        let is_definition_url =
            member.element == "url" && self.definitions.kind(owner) == TypeKind::Resource && !matches!(owner_name, "Contract" | "Device");
        if !is_definition_url && member.element != "linkId" && !KEPT.contains(&(owner_name, member.element)) {
            self.paths.insert(token.clone(), path.to_owned());
        }
        Some(match (owner_name, member.element) {
            ("Reference", "reference") => Value::from(format!("Patient/{token}")),
            ("Narrative", "div") => Value::from(format!("<div>{token}</div>")),
            _ => Value::from(token),
        })
    }
}

/// Returns the text of a sample for a version of FHIR.
fn sample(name: &str, version: &str) -> String {
    let name = match (name, version) {
        ("study", "R4B") => "study-r4b",
        ("study", "R5") => "study-r5",
        (name, _) => name,
    };
    let path = format!("{}/../../tests/samples/anonymization/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().replacen("\"R4\"", &format!("\"{version}\""), 1)
}

/// Returns the paths of the tokens that are left of all types of a version.
fn leaked_paths(name: &str, (version, spelled): (FhirVersion, &str), is_kept: impl Fn(&str) -> bool) -> Vec<String> {
    let deidentifier = DeidConfig::parse(sample(name, spelled).as_bytes(), version).unwrap().for_job(&job());
    let definitions = version.type_definitions();
    let mut leaked = Vec::new();
    let mut seeder = TokenSeeder { definitions, choice: 0, max_choices: 1, paths: BTreeMap::new(), count: 0 };
    for resource_type in version.types().iter() {
        let root = definitions.of_resource(resource_type).unwrap();
        (seeder.choice, seeder.max_choices) = (0, 1);
        while seeder.choice < seeder.max_choices {
            seeder.paths.clear();
            let mut resource = seeder.object(root, resource_type.as_str(), &mut vec![root]);
            resource.insert("resourceType".to_owned(), Value::from(resource_type.as_str()));
            let output = deidentify(&deidentifier, &Value::Object(resource).to_string()).unwrap();
            let found = output.match_indices("zq").filter_map(|(at, _)| output.get(at..at + TOKEN_CHARS));
            leaked.extend(found.filter_map(|token| seeder.paths.get(token)).filter(|path| !is_kept(path)).cloned());
            seeder.choice += 1;
        }
    }
    assert!(seeder.count > 20_000, "{} tokens", seeder.count);
    leaked.sort_unstable();
    leaked.dedup();
    leaked
}

const VERSIONS: [(FhirVersion, &str); 3] = [(FhirVersion::R4, "R4"), (FhirVersion::R4b, "R4B"), (FhirVersion::R5, "R5")];

#[test]
fn the_sample_for_a_study_lets_no_text_of_any_type_through() {
    for version in VERSIONS {
        assert_eq!(leaked_paths("study", version, |_| false), Vec::<String>::new(), "{}", version.1);
    }
}

#[test]
fn the_sample_for_the_safe_harbor_lets_no_text_of_any_type_through() {
    // The method keeps states and countries, and noise on an age leaves its unit.
    let is_kept = |path: &str| {
        let is_of_organization = KEPT_OF_ORGANIZATIONS.iter().any(|kept| path.strip_prefix(kept).is_some_and(|rest| rest.starts_with('.')));
        let is_age = path.starts_with("FamilyMemberHistory.condition.onsetAge.");
        path.ends_with(".state") || path.ends_with(".country") || is_of_organization || is_age
    };
    for version in VERSIONS {
        assert_eq!(leaked_paths("safe-harbor", version, is_kept), Vec::<String>::new(), "{}", version.1);
    }
}

#[test]
fn the_samples_remove_the_coordinates_of_places_and_keep_responses_joined_to_their_messages() {
    for name in ["study", "safe-harbor"] {
        let deidentifier = deidentifier(&sample(name, "R4"));
        let location = r#"{"resourceType":"Location","id":"l","position":{"longitude":11.5755,"latitude":48.1372}}"#;
        assert!(!deidentify(&deidentifier, location).unwrap().contains("position"), "{name}");
        let message = r#"{"resourceType":"MessageHeader","id":"m1","response":{"identifier":"m1","code":"ok"}}"#;
        let message = parse_json(&deidentify(&deidentifier, message).unwrap());
        assert!(message["id"] != "m1" && message["response"]["identifier"] == message["id"], "{name}: {message}");
    }
}

#[test]
fn the_samples_remove_the_dates_of_what_goes_on_in_the_night_of_the_export() {
    for name in ["study", "safe-harbor"] {
        let deidentifier = deidentifier(&sample(name, "R4"));
        let start = |resource_type: &str, status: &str, period: &str| {
            let resource = format!(
                r#"{{"resourceType":"{resource_type}","id":"r","status":"{status}","{period}":{{"start":"2026-11-20T08:00:00Z"}}}}"#
            );
            parse_json(&deidentify(&deidentifier, &resource).unwrap())[period]["start"].as_str().unwrap_or_default().to_owned()
        };
        for (resource_type, status, period) in [
            ("Encounter", "in-progress", "period"),
            ("Encounter", "onleave", "period"),
            ("EpisodeOfCare", "active", "period"),
            ("Procedure", "in-progress", "performedPeriod"),
            ("MedicationAdministration", "in-progress", "effectivePeriod"),
        ] {
            // The safe-harbor method keeps years.
            assert!(matches!(&*start(resource_type, status, period), "" | "2026"), "{name}: {resource_type} {status}");
        }
        assert_eq!(start("Encounter", "finished", "period").len(), "2026-11-20T00:00:00Z".len(), "{name}: a shifted date");
        for (resource_type, status) in
            [("Appointment", r#""status":"booked""#), ("AppointmentResponse", r#""participantStatus":"accepted""#)]
        {
            let booked = format!(r#"{{"resourceType":"{resource_type}","id":"a",{status},"start":"2026-12-20T08:00:00Z"}}"#);
            assert!(!deidentify(&deidentifier, &booked).unwrap().contains("2026-"), "{name} {resource_type}");
        }
    }
}

#[test]
fn the_sample_for_r5_removes_the_dates_of_what_goes_on_in_the_night_of_the_export() {
    let deidentifier = DeidConfig::parse(sample("study", "R5").as_bytes(), FhirVersion::R5).unwrap().for_job(&job());
    for resource in [
        r#"{"resourceType":"EncounterHistory","id":"e","status":"in-progress","actualPeriod":{"start":"2026-11-20T08:00:00Z"}}"#,
        r#"{"resourceType":"Appointment","id":"a","status":"booked","recurrenceTemplate":[{"lastOccurrenceDate":"2026-12-31",
            "occurrenceDate":["2026-12-07"],"monthlyTemplate":{"dayOfWeek":{"code":"mon","display":"2026-"},"monthInterval":1}}]}"#,
        r#"{"resourceType":"AppointmentResponse","id":"r","participantStatus":"accepted","occurrenceDate":"2026-12-07"}"#,
    ] {
        let output = deidentify(&deidentifier, &resource.replace('\n', "")).unwrap();
        assert!(!output.contains("2026-") && !output.contains("\"mon\""), "{output}");
    }
}

/// The resources of R4 with dates that are public or near the moment at which somebody recorded them. All are in 2023.
const KNOWN_IN_R4: [&str; 9] = [
    r#"{"resourceType":"ValueSet","id":"a","compose":{"lockedDate":"2023-05-05"},"expansion":{"timestamp":"2023-05-05"}}"#,
    r#"{"resourceType":"CapabilityStatement","id":"a","software":{"releaseDate":"2023-05-05"}}"#,
    r#"{"resourceType":"NamingSystem","id":"a","uniqueId":[{"period":{"start":"2023-05-05"}}]}"#,
    r#"{"resourceType":"CatalogEntry","id":"a","validityPeriod":{"start":"2023-05-05"},"validTo":"2023-05-05","lastUpdated":"2023-05-05"}"#,
    r#"{"resourceType":"StructureDefinition","id":"a","differential":{"element":[{"fixedInstant":"2023-05-05T00:00:00Z","maxValueDate":"2023-05-05"}]}}"#,
    r#"{"resourceType":"SubstanceSpecification","id":"a","code":[{"statusDate":"2023-05-05"}]}"#,
    r#"{"resourceType":"Goal","id":"a","statusDate":"2023-05-05"}"#,
    r#"{"resourceType":"Contract","id":"a","term":[{"issued":"2023-05-05","asset":[{"valuedItem":[{"paymentDate":"2023-05-05"}]}],"group":[{"issued":"2023-05-05"}]}]}"#,
    r#"{"resourceType":"Task","id":"a","input":[{"valueMeta":{"lastUpdated":"2023-05-05T00:00:00Z"}}]}"#,
];

/// The resources of R5 with such dates that R4 does not define.
const KNOWN_IN_R5: [&str; 7] = [
    r#"{"resourceType":"RegulatedAuthorization","id":"a","statusDate":"2023-05-05","case":{"dateDateTime":"2023-05-05"}}"#,
    r#"{"resourceType":"MedicinalProductDefinition","id":"a","marketingStatus":[{"dateRange":{"start":"2023-05-05"}}]}"#,
    r#"{"resourceType":"PackagedProductDefinition","id":"a","characteristic":[{"valueDate":"2023-05-05"}]}"#,
    r#"{"resourceType":"Citation","id":"a","citedArtifact":{"dateAccessed":"2023-05-05"}}"#,
    r#"{"resourceType":"DeviceDefinition","id":"a","correctiveAction":{"period":{"start":"2023-05-05"}}}"#,
    r#"{"resourceType":"SubstanceDefinition","id":"a","code":[{"statusDate":"2023-05-05"}]}"#,
    r#"{"resourceType":"NutritionProduct","id":"a","instance":[{"expiry":"2023-05-05","useBy":"2023-05-05"}]}"#,
];

#[test]
fn the_samples_shift_no_date_of_definitions_and_products_and_none_that_is_recorded_at_once() {
    // The safe-harbor method keeps years.
    for (name, version, resources) in
        [("study", VERSIONS[0], &KNOWN_IN_R4[..]), ("safe-harbor", VERSIONS[0], &KNOWN_IN_R4[..]), ("study", VERSIONS[2], &KNOWN_IN_R5[..])]
    {
        let deidentifier = DeidConfig::parse(sample(name, version.1).as_bytes(), version.0).unwrap().for_job(&job());
        for resource in resources {
            let output = deidentify(&deidentifier, resource).unwrap();
            assert!(!output.contains("2023-"), "{name}: {output}");
        }
    }
}

// Whoever knows where the hospital is, when insurance years begin, or when a leaflet was published, must not learn the shift from that.
#[test]
fn the_samples_leave_nothing_beside_shifted_dates_that_reveals_the_shift() {
    for name in ["study", "safe-harbor"] {
        let deidentifier = deidentifier(&sample(name, "R4"));
        let output = |resource: &str| deidentify(&deidentifier, resource).unwrap();
        let visit = |date: &str| {
            let visit =
                format!(r#"{{"resourceType":"Observation","id":"o","subject":{{"reference":"Patient/p"}},"effectiveDateTime":"{date}"}}"#);
            parse_json(&output(&visit))["effectiveDateTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(visit("2023-03-25T09:30:00+01:00"), visit("2023-03-25T23:30:00.123-04:00"), "{name}");
        assert!(visit("2023-03-27T09:30:00+02:00").ends_with("T00:00:00Z"), "{name}");
        for (resource, pointer) in [
            (r#"{"resourceType":"Coverage","id":"c","period":{"start":"2023-01-01"}}"#, "/period/start"),
            (r#"{"resourceType":"Claim","id":"c","billablePeriod":{"end":"2023-02-28"}}"#, "/billablePeriod/end"),
            (r#"{"resourceType":"Immunization","id":"i","expirationDate":"2025-06-30"}"#, "/expirationDate"),
            (r#"{"resourceType":"Immunization","id":"i","education":[{"publicationDate":"2021-08-06"}]}"#, "/education/0/publicationDate"),
            (r#"{"resourceType":"EpisodeOfCare","id":"e","status":"finished","period":{"end":"9999-12-31"}}"#, "/period/end"),
            (
                r#"{"resourceType":"ServiceRequest","id":"s","occurrenceTiming":{"repeat":{"dayOfWeek":["mon"]}}}"#,
                "/occurrenceTiming/repeat/dayOfWeek/0",
            ),
            (r#"{"resourceType":"Condition","id":"c","code":{"coding":[{"code":"I10","version":"GM-2023"}]}}"#, "/code/coding/0/version"),
        ] {
            let output = parse_json(&output(resource));
            // The safe-harbor method keeps years.
            let length = output.pointer(pointer).and_then(Value::as_str).map(str::len);
            assert!(matches!(length, None | Some(4)), "{name} {pointer}: {output}");
        }
    }
}
