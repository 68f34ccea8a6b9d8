//! Patients, practitioners, organizations and groups.

use super::super::json::{Json, list, object};
use super::{LOINC, LakeBuilder, SNOMED, Timestamp, coding, concept, decimal, reference_to};

/// Properties of a patient, from which all its resources are generated.
pub(super) struct PatientProfile {
    pub(super) number: usize,
    pub(super) id: &'static str,
    family: &'static str,
    given: &'static [&'static str],
    gender: &'static str,
    birth: &'static str,
    street: &'static str,
    language: (&'static str, &'static str),
    marital: Option<(&'static str, &'static str)>,
    /// Numbers of the conditions in `add_clinical_records`.
    pub(super) problems: &'static [usize],
    /// Numbers of the allergies in `add_clinical_records`.
    pub(super) allergies: &'static [usize],
    /// Number of the smoking status in `add_observations`.
    pub(super) smoking: usize,
    /// Body height in millimetres.
    pub(super) height: i64,
    /// Body weight in grams.
    pub(super) weight: i64,
}

const ENGLISH: (&str, &str) = ("en", "English");
const MARRIED: Option<(&str, &str)> = Some(("M", "Married"));
const SINGLE: Option<(&str, &str)> = Some(("S", "Never Married"));
const WIDOWED: Option<(&str, &str)> = Some(("W", "Widowed"));

#[rustfmt::skip]
pub(super) const PATIENTS: [PatientProfile; 12] = [
    PatientProfile { number: 0, id: "hr-patient-01", family: "Okonlind", given: &["Amara", "Joy"], gender: "female", birth: "1961-04-17", street: "3 Weir Lane", language: ENGLISH, marital: MARRIED, problems: &[0, 1, 2], allergies: &[0], smoking: 1, height: 1684, weight: 81_300 },
    PatientProfile { number: 1, id: "hr-patient-02", family: "Beaumarchand", given: &["Théo"], gender: "male", birth: "1987-11-02", street: "18 quai de l'Écluse", language: ("fr", "Français"), marital: SINGLE, problems: &[3, 7], allergies: &[1], smoking: 0, height: 1790, weight: 74_000 },
    PatientProfile { number: 2, id: "hr-patient-03", family: "黒石", given: &["陽向"], gender: "female", birth: "1994-07-30", street: "水門通り 5-2", language: ("ja", "日本語"), marital: SINGLE, problems: &[4], allergies: &[], smoking: 0, height: 1580, weight: 52_600 },
    PatientProfile { number: 3, id: "hr-patient-04", family: "Quintavalle", given: &["Marisol", "Inés"], gender: "female", birth: "1949", street: "44 Millrace Street", language: ("es", "Español"), marital: WIDOWED, problems: &[0, 1, 8], allergies: &[2], smoking: 1, height: 1550, weight: 68_450 },
    PatientProfile { number: 4, id: "hr-patient-05", family: "Sandvatn", given: &["Eirik"], gender: "male", birth: "1972-02-29", street: "Bekkeveien 9", language: ("nb", "Norsk bokmål"), marital: MARRIED, problems: &[1, 2], allergies: &[], smoking: 2, height: 1862, weight: 96_100 },
    PatientProfile { number: 5, id: "hr-patient-06", family: "Ramanathil", given: &["Priya"], gender: "female", birth: "1990-09-08", street: "7 Sluice Court", language: ENGLISH, marital: MARRIED, problems: &[5, 7], allergies: &[3], smoking: 0, height: 1632, weight: 59_000 },
    PatientProfile { number: 6, id: "hr-patient-07", family: "Zawierka", given: &["Łukasz"], gender: "male", birth: "1955-12-24", street: "ul. Młyńska 12", language: ("pl", "Polski"), marital: MARRIED, problems: &[6, 2], allergies: &[], smoking: 1, height: 1748, weight: 88_250 },
    PatientProfile { number: 7, id: "hr-patient-08", family: "Thistlewick", given: &["Nell"], gender: "female", birth: "2019-05-21", street: "21 Penstock Road", language: ENGLISH, marital: None, problems: &[9, 3], allergies: &[1, 3], smoking: 0, height: 1105, weight: 18_900 },
    PatientProfile { number: 8, id: "hr-patient-09", family: "Oyelanka", given: &["Samuel", "Ade"], gender: "male", birth: "1938-01-15", street: "2 Tailrace Close", language: ENGLISH, marital: WIDOWED, problems: &[0, 1, 6, 8], allergies: &[0], smoking: 1, height: 1701, weight: 71_700 },
    PatientProfile { number: 9, id: "hr-patient-10", family: "Vestergrens", given: &["Ingrid"], gender: "female", birth: "1968-06", street: "Kvarngatan 31", language: ("sv", "Svenska"), marital: SINGLE, problems: &[5, 10], allergies: &[], smoking: 0, height: 1715, weight: 66_000 },
    PatientProfile { number: 10, id: "hr-patient-11", family: "Adomensa", given: &["Kofi"], gender: "male", birth: "1999-10-10", street: "60 Spillway Avenue", language: ENGLISH, marital: SINGLE, problems: &[10], allergies: &[], smoking: 2, height: 1820, weight: 79_500 },
    PatientProfile { number: 11, id: "hr-patient-12", family: "Hallowmere", given: &["Wren"], gender: "other", birth: "2007-03-03", street: "5 Forebay Gardens", language: ENGLISH, marital: None, problems: &[4, 7], allergies: &[2], smoking: 0, height: 1660, weight: 55_050 },
];

impl PatientProfile {
    /// Builds a `Reference` to the patient. Every other patient's has a display.
    pub(super) fn reference(&self) -> Json {
        let name = (self.number % 2 == 1).then(|| self.full_name());
        object! { "reference": format!("Patient/{}", self.id), "display": name }
    }

    /// Returns given names and family name. In Japanese, the family name comes first.
    fn full_name(&self) -> String {
        if self.language.0 == "ja" {
            format!("{} {}", self.family, self.given.join(" "))
        } else {
            format!("{} {}", self.given.join(" "), self.family)
        }
    }

    /// Returns the id of the patient's general practitioner.
    pub(super) fn practitioner(&self) -> &'static str {
        super::pick(&DOCTORS, self.number)
    }
}

pub(super) const CLINIC: &str = "hr-org-clinic";
pub(super) const HOSPITAL: &str = "hr-org-hospital";
pub(super) const LABORATORY: &str = "hr-org-laboratory";
pub(super) const INSURER: &str = "hr-org-insurer";
pub(super) const DOCTORS: [&str; 4] = ["hr-prac-01", "hr-prac-02", "hr-prac-03", "hr-prac-04"];
pub(super) const NURSES: [&str; 2] = ["hr-prac-05", "hr-prac-06"];

impl LakeBuilder {
    /// Adds organizations, practitioners and patients.
    pub(super) fn add_people(&mut self) {
        self.add_organizations();
        self.add_practitioners();
        for patient in &PATIENTS {
            self.add_patient(patient);
        }
    }

    /// Adds the organizations.
    fn add_organizations(&mut self) {
        let kinds = "http://terminology.hl7.org/CodeSystem/organization-type";
        let provider = || concept(kinds, "prov", "Healthcare Provider");
        let rows = [
            (HOSPITAL, "Headwater General Hospital", provider(), None),
            (CLINIC, "Clinique de l'Écluse 🏥", provider(), Some(HOSPITAL)),
            (LABORATORY, "Klarbach Labor für Diagnostik", concept(kinds, "dept", "Hospital Department"), Some(HOSPITAL)),
            (INSURER, "Millpond Mutual \"Care & More\"", concept(kinds, "ins", "Insurance Company"), None),
        ];
        for (number, (id, name, kind, parent)) in rows.into_iter().enumerate() {
            let body = object! {
                "identifier": list![object! {
                    "system": "https://headwater.example/ids/organization", "value": format!("ORG-{:04}", 1017 + number * 31),
                }],
                "active": true,
                "type": list![kind],
                "name": name,
                "telecom": list![object! { "system": "phone", "value": format!("555-01{:02}", 10 + number), "use": "work" }],
                "address": list![address(&format!("{} Headrace Square", number + 1))],
                "partOf": parent.map(|id| reference_to("Organization", id)),
            };
            self.add_resource("Organization", id, Timestamp::START.plus_days(number as i64 * 140), body);
        }
    }

    /// Adds the practitioners.
    fn add_practitioners(&mut self) {
        let rows = [
            ("Marchetto", "Lucía", "female", "MD", "Doctor of Medicine"),
            ("Bjerkelund", "Håkon", "male", "MD", "Doctor of Medicine"),
            ("Nakagiri", "Emi", "female", "MD", "Doctor of Medicine"),
            ("Farrowdale", "Tobias", "male", "NP", "Nurse Practitioner"),
            ("Szelényak", "Zsófia", "female", "RN", "Registered Nurse"),
            ("Mbekwena", "Daniel", "male", "RN", "Registered Nurse"),
        ];
        let ids = DOCTORS.iter().chain(&NURSES);
        for (number, (id, (family, given, gender, degree, title))) in ids.zip(rows).enumerate() {
            let body = object! {
                "identifier": list![object! {
                    "system": "https://headwater.example/ids/practitioner", "value": format!("HW{:05}", 20_431 + number * 977),
                }],
                "active": true,
                "name": list![object! {
                    "use": "official",
                    "family": family,
                    "given": list![given],
                    "prefix": (degree == "MD").then(|| list!["Dr."]),
                }],
                "telecom": list![object! { "system": "email", "value": format!("practitioner{number}@headwater.example") }],
                "gender": gender,
                "qualification": list![object! {
                    "code": concept("http://terminology.hl7.org/CodeSystem/v2-0360", degree, title),
                    "issuer": reference_to("Organization", HOSPITAL),
                }],
            };
            self.add_resource("Practitioner", id, Timestamp::START.plus_days(30 + number as i64 * 170), body);
        }
    }

    /// Adds a patient.
    fn add_patient(&mut self, patient: &PatientProfile) {
        let number = patient.number;
        let name = object! {
            "use": "official",
            "text": (!number.is_multiple_of(3)).then(|| patient.full_name()),
            "family": patient.family,
            "given": patient.given.iter().map(|name| Json::from(*name)).collect::<Vec<_>>(),
        };
        // A second name in another script.
        let romanised = (patient.language.0 == "ja")
            .then(|| object! { "use": "usual", "text": "Hinata Kuroishi", "family": "Kuroishi", "given": list!["Hinata"] });
        let mut names = vec![name];
        names.extend(romanised);
        let division = format!(
            "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p><b>{}</b>, born {} &#8212; invented for tests</p></div>",
            patient.full_name(),
            patient.birth,
        );
        let language = object! {
            "coding": list![coding("urn:ietf:bcp:47", patient.language.0, patient.language.1)], "text": patient.language.1,
        };
        let body = object! {
            "text": (number % 4 == 1).then(|| object! { "status": "generated", "div": division }),
            "extension": number.is_multiple_of(5).then(|| list![birth_place(number)]),
            "identifier": list![object! {
                "use": "usual",
                "type": concept("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "Medical record number"),
                "system": "https://headwater.example/ids/record",
                "value": format!("HR-{:06}", 100_207 + number * 7919),
                "assigner": reference_to("Organization", HOSPITAL),
            }],
            "active": number != 8,
            "name": names,
            "telecom": list![
                object! { "system": "phone", "value": format!("555-01{:02}", 40 + number), "use": "mobile", "rank": 1usize },
                object! { "system": "email", "value": format!("patient{}@town.example", number + 1) },
            ],
            "gender": patient.gender,
            "birthDate": patient.birth,
            "deceasedDateTime": (number == 8).then_some("2026-03-01T05:40:00+01:00"),
            "address": list![address(patient.street)],
            "maritalStatus": patient.marital.map(|(code, words)| {
                concept("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", code, words)
            }),
            "multipleBirthInteger": (number == 7).then_some(2usize),
            "contact": (number == 7).then(|| list![object! {
                "relationship": list![concept("http://terminology.hl7.org/CodeSystem/v2-0131", "N", "Next-of-Kin")],
                "name": object! { "family": "Thistlewick", "given": list!["Oona"] },
                "telecom": list![object! { "system": "phone", "value": "555-0188" }],
            }]),
            "communication": list![object! { "language": language, "preferred": true }],
            "generalPractitioner": list![reference_to("Practitioner", patient.practitioner())],
            "managingOrganization": reference_to("Organization", CLINIC),
        };
        // The deceased patient was last updated after the date of death.
        let days = if number == 8 { 1150 } else { 60 + number as i64 * 95 };
        self.add_resource("Patient", patient.id, Timestamp::START.plus_days(days), body);
    }

    /// Adds two groups of patients: a clinic's programme, and a study with one inactive member.
    pub(super) fn add_groups(&mut self) {
        let enrolled = |days: i64| object! { "start": Timestamp::START.plus_days(days).date() };
        let member = |number: usize| {
            let id = PATIENTS.get(number).map_or("", |patient| patient.id);
            object! { "entity": reference_to("Patient", id), "period": enrolled(number as i64 * 21), "inactive": false }
        };
        let diabetes = [0, 3, 8].map(member).to_vec();
        let mut study = [1, 2, 5, 9, 10].map(member).to_vec();
        study.push(object! {
            "entity": reference_to("Patient", "hr-patient-12"),
            "period": object! { "start": "2024-05-02", "end": "2025-01-31" },
            "inactive": true,
        });
        let rows = [
            ("hr-group-diabetes", "Diabetes programme", "DP-1", diabetes, 900),
            ("hr-group-study-1", "Upstream study, arm 甲 🌊", "US-1", study, 1100),
        ];
        for (id, name, value, members, days) in rows {
            let body = object! {
                "identifier": list![object! { "system": "https://headwater.example/ids/group", "value": value }],
                "active": true,
                "type": "person",
                "actual": true,
                "code": (value == "DP-1").then(|| concept(SNOMED, "44054006", "Diabetes mellitus type 2")),
                "name": name,
                "quantity": members.len(),
                "managingEntity": reference_to("Organization", CLINIC),
                "characteristic": (value == "DP-1").then(|| list![object! {
                    "code": concept(LOINC, "4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood"),
                    "valueRange": object! { "low": super::quantity(decimal(65, 1), "%", "%") },
                    "exclude": false,
                }]),
                "member": members,
            };
            self.add_resource("Group", id, Timestamp::START.plus_days(days), body);
        }
    }
}

/// Builds a home `Address` with this street line.
fn address(line: &str) -> Json {
    object! {
        "use": "home",
        "line": list![line],
        "city": "Headwater",
        "postalCode": "00000",
        "country": "ZZ",
    }
}

/// Builds the birth place extension. Its decimals have no exact binary representation.
fn birth_place(number: usize) -> Json {
    let decimals = ["46.9480", "-12.50", "7.44744700000000012", "-0.10", "1.2E2"].map(|text| Json::Raw(text.to_owned()));
    let [latitude, west, longitude, south, east] = decimals;
    let (latitude, longitude) = match number {
        0 => (latitude, longitude),
        5 => (west, east),
        _ => (south, decimal(1000, 3)),
    };
    object! {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
        "valueAddress": object! {
            "extension": list![object! {
                "url": "http://hl7.org/fhir/StructureDefinition/geolocation",
                "extension": list![
                    object! { "url": "latitude", "valueDecimal": latitude },
                    object! { "url": "longitude", "valueDecimal": longitude },
                ],
            }],
            "city": "Oberwasser",
        },
    }
}
