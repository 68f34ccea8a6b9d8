//! Diagnostic reports, care plans, claims and document references.

use super::super::json::{Json, list, object};
use super::people::{CLINIC, INSURER, LABORATORY, PatientProfile};
use super::{LOINC, LakeBuilder, SNOMED, Timestamp, VisitSummary, code, concept, decimal, pick, reference_to};

const LETTERS: [&str; 6] = [
    "Seen today, feels well. Next visit in a year.\n",
    "Vu ce jour : état général bon, sommeil réparateur.\nÀ revoir dans six mois.\n",
    "本日診察。経過は良好です。\n",
    "Vista hoy; la presión está controlada. Volverá en otoño. 🍂\n",
    "Kontroll i dag. Røyker mindre. Blodtrykk målt to ganger.\n",
    "Dziś kontrola; kaszel ustępuje.\r\nNext review: spring.\r\n",
];

impl LakeBuilder {
    /// Adds all documents of one patient.
    pub(super) fn add_documents(&mut self, patient: &PatientProfile, visits: &[VisitSummary], problems: &[String], labs: &[String]) {
        let [first, second, third, ..] = visits else {
            return;
        };
        self.add_report(patient, second, labs);
        if patient.number.is_multiple_of(2) {
            self.add_care_plan(patient, first, problems);
        }
        self.add_claim(patient, first, problems, 8500);
        if patient.number % 3 == 1 {
            self.add_claim(patient, third, problems, 12_040);
        }
        if patient.number < LETTERS.len() {
            self.add_letter(patient, third);
        }
    }

    /// Adds a laboratory report with the observations `labs`.
    fn add_report(&mut self, patient: &PatientProfile, visit: &VisitSummary, labs: &[String]) {
        let id = self.random.uuid();
        let issued = visit.start.plus_seconds(40_000);
        let body = object! {
            "status": "final",
            "category": list![concept("http://terminology.hl7.org/CodeSystem/v2-0074", "LAB", "Laboratory")],
            "code": concept(LOINC, "11502-2", "Laboratory report"),
            "subject": patient.reference(),
            "encounter": visit.reference(),
            "effectiveDateTime": visit.start.date_time(),
            "issued": issued.instant(patient.number, 480),
            "performer": list![reference_to("Organization", LABORATORY)],
            "resultsInterpreter": list![reference_to("Practitioner", patient.practitioner())],
            "result": labs.iter().map(|id| reference_to("Observation", id)).collect::<Vec<_>>(),
            "conclusion": (patient.number == 2).then_some("異常なし ✅"),
        };
        self.add_resource("DiagnosticReport", &id, issued, body);
    }

    /// Adds a care plan for the conditions `problems`.
    fn add_care_plan(&mut self, patient: &PatientProfile, visit: &VisitSummary, problems: &[String]) {
        let id = self.random.uuid();
        let activity = |code: &str, words: &str| {
            object! { "detail": object! { "code": concept(SNOMED, code, words), "status": "in-progress" } }
        };
        // One plan refers to a version of the condition.
        let address = |id: &String| match patient.number {
            2 => object! { "reference": format!("Condition/{id}/_history/1") },
            _ => reference_to("Condition", id),
        };
        let body = object! {
            "status": "active",
            "intent": "plan",
            "category": list![concept(SNOMED, "734163000", "Care plan")],
            "title": "Steady as the river: diet, exercise, follow-up",
            "subject": patient.reference(),
            "encounter": visit.reference(),
            "period": object! { "start": visit.start.date() },
            "author": reference_to("Practitioner", visit.practitioner),
            "addresses": problems.iter().map(address).collect::<Vec<_>>(),
            "activity": list![activity("160670007", "Diabetic diet"), activity("229065009", "Exercise therapy")],
        };
        self.add_resource("CarePlan", &id, visit.start.plus_seconds(1500), body);
    }

    /// Adds a claim of `cents` for the conditions `problems`, with a contained Coverage.
    fn add_claim(&mut self, patient: &PatientProfile, visit: &VisitSummary, problems: &[String], cents: i64) {
        let id = self.random.uuid();
        let money = |cents: i64| object! { "value": decimal(cents, 2), "currency": "USD" };
        // A contained resource: exports must neither extract it nor resolve `#coverage`.
        let coverage = object! {
            "resourceType": "Coverage",
            "id": "coverage",
            "status": "active",
            "beneficiary": reference_to("Patient", patient.id),
            "payor": list![reference_to("Organization", INSURER)],
        };
        let terminology = "http://terminology.hl7.org/CodeSystem";
        let item = |sequence: usize, code: &str, words: &str, cents: i64| {
            object! {
                "sequence": sequence,
                "diagnosisSequence": (sequence == 1).then(|| list![1usize]),
                "productOrService": concept(SNOMED, code, words),
                "servicedDate": visit.start.date(),
                "quantity": object! { "value": decimal(10, 1) },
                "unitPrice": money(cents),
                "net": money(cents),
                "encounter": (sequence == 1).then(|| list![visit.reference()]),
            }
        };
        let body = object! {
            "contained": list![coverage],
            "identifier": list![object! { "system": "https://headwater.example/ids/claim", "value": format!("CLM/{}", &id) }],
            "status": "active",
            "type": code(&format!("{terminology}/claim-type"), "professional"),
            "use": "claim",
            "patient": patient.reference(),
            "created": visit.start.plus_days(1).date_time(),
            "insurer": reference_to("Organization", INSURER),
            "provider": reference_to("Organization", CLINIC),
            "priority": code(&format!("{terminology}/processpriority"), "normal"),
            "payee": object! { "type": code(&format!("{terminology}/payeetype"), "provider") },
            "diagnosis": problems.first().map(|id| {
                list![object! { "sequence": 1usize, "diagnosisReference": reference_to("Condition", id) }]
            }),
            "insurance": list![object! { "sequence": 1usize, "focal": true, "coverage": object! { "reference": "#coverage" } }],
            "item": list![
                item(1, "185349003", "Encounter for check up (procedure)", cents),
                item(2, "430193006", "Medication reconciliation", 1550),
            ],
            "total": money(cents + 1550),
        };
        self.add_resource("Claim", &id, visit.start.plus_days(1), body);
    }

    /// Adds a document with the text of a letter.
    fn add_letter(&mut self, patient: &PatientProfile, visit: &VisitSummary) {
        let id = self.random.uuid();
        let text = pick(&LETTERS, patient.number);
        let written: Timestamp = visit.start.plus_seconds(3000);
        let body = object! {
            "masterIdentifier": object! { "system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:{id}") },
            "status": "current",
            "docStatus": "final",
            "type": concept(LOINC, "11506-3", "Progress note"),
            "subject": patient.reference(),
            "date": written.instant(patient.number, 75),
            "author": list![reference_to("Practitioner", visit.practitioner)],
            "custodian": reference_to("Organization", CLINIC),
            "content": list![object! {
                "attachment": object! {
                    "contentType": "text/plain; charset=utf-8",
                    "data": base64(text.as_bytes()),
                    "size": text.len(),
                    "title": format!("letter-{}.txt", written.date()),
                    "creation": written.date_time(),
                },
            }],
            "context": object! { "encounter": list![visit.reference()] },
        };
        self.add_resource("DocumentReference", &id, written, body);
    }
}

/// Encodes bytes in base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> Json {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let whole = (0..3).fold(0, |sum, index| sum << 8 | group.get(index).copied().map_or(0, usize::from));
        for index in 0..4 {
            let letter = if index > group.len() { b'=' } else { pick(LETTERS, whole >> (18 - 6 * index) & 63) };
            text.push(char::from(letter));
        }
    }
    Json::from(text)
}
