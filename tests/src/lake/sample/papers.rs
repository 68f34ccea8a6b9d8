//! What was written up: diagnostic reports, care plans, claims, documents.

use super::super::json::{Json, list, object};
use super::people::{CLINIC, INSURER, LABORATORY, Person};
use super::{LOINC, Moment, SNOMED, Town, Visit, code, concept, decimal, pick, refer};

const LETTERS: [&str; 6] = [
    "Seen today, feels well. Next visit in a year.\n",
    "Vu ce jour : état général bon, sommeil réparateur.\nÀ revoir dans six mois.\n",
    "本日診察。経過は良好です。\n",
    "Vista hoy; la presión está controlada. Volverá en otoño. 🍂\n",
    "Kontroll i dag. Røyker mindre. Blodtrykk målt to ganger.\n",
    "Dziś kontrola; kaszel ustępuje.\r\nNext review: spring.\r\n",
];

impl Town {
    /// All papers of one person.
    pub(super) fn papers(&mut self, person: &Person, visits: &[Visit], problems: &[String], labs: &[String]) {
        let [first, second, third, ..] = visits else {
            return;
        };
        self.report(person, second, labs);
        if person.number.is_multiple_of(2) {
            self.plan(person, first, problems);
        }
        self.claim(person, first, problems, 8500);
        if person.number % 3 == 1 {
            self.claim(person, third, problems, 12_040);
        }
        if person.number < LETTERS.len() {
            self.letter(person, third);
        }
    }

    fn report(&mut self, person: &Person, visit: &Visit, labs: &[String]) {
        let id = self.draw.uuid();
        let issued = visit.start.plus_seconds(40_000);
        let body = object! {
            "status": "final",
            "category": list![concept("http://terminology.hl7.org/CodeSystem/v2-0074", "LAB", "Laboratory")],
            "code": concept(LOINC, "11502-2", "Laboratory report"),
            "subject": person.reference(),
            "encounter": visit.reference(),
            "effectiveDateTime": visit.start.date_time(),
            "issued": issued.instant(person.number, 480),
            "performer": list![refer("Organization", LABORATORY)],
            "resultsInterpreter": list![refer("Practitioner", person.practitioner())],
            "result": labs.iter().map(|id| refer("Observation", id)).collect::<Vec<_>>(),
            "conclusion": (person.number == 2).then_some("異常なし ✅"),
        };
        self.add("DiagnosticReport", &id, issued, body);
    }

    fn plan(&mut self, person: &Person, visit: &Visit, problems: &[String]) {
        let id = self.draw.uuid();
        let activity = |code: &str, words: &str| {
            object! { "detail": object! { "code": concept(SNOMED, code, words), "status": "in-progress" } }
        };
        // The second patient with a plan names a version of the condition.
        let address = |id: &String| match person.number {
            2 => object! { "reference": format!("Condition/{id}/_history/1") },
            _ => refer("Condition", id),
        };
        let body = object! {
            "status": "active",
            "intent": "plan",
            "category": list![concept(SNOMED, "734163000", "Care plan")],
            "title": "Steady as the river: diet, exercise, follow-up",
            "subject": person.reference(),
            "encounter": visit.reference(),
            "period": object! { "start": visit.start.date() },
            "author": refer("Practitioner", visit.practitioner),
            "addresses": problems.iter().map(address).collect::<Vec<_>>(),
            "activity": list![activity("160670007", "Diabetic diet"), activity("229065009", "Exercise therapy")],
        };
        self.add("CarePlan", &id, visit.start.plus_seconds(1500), body);
    }

    fn claim(&mut self, person: &Person, visit: &Visit, problems: &[String], cents: i64) {
        let id = self.draw.uuid();
        let money = |cents: i64| object! { "value": decimal(cents, 2), "currency": "USD" };
        let coverage = object! {
            "resourceType": "Coverage",
            "id": "coverage",
            "status": "active",
            "beneficiary": refer("Patient", person.id),
            "payor": list![refer("Organization", INSURER)],
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
            "patient": person.reference(),
            "created": visit.start.plus_days(1).date_time(),
            "insurer": refer("Organization", INSURER),
            "provider": refer("Organization", CLINIC),
            "priority": code(&format!("{terminology}/processpriority"), "normal"),
            "payee": object! { "type": code(&format!("{terminology}/payeetype"), "provider") },
            "diagnosis": problems.first().map(|id| {
                list![object! { "sequence": 1usize, "diagnosisReference": refer("Condition", id) }]
            }),
            "insurance": list![object! { "sequence": 1usize, "focal": true, "coverage": object! { "reference": "#coverage" } }],
            "item": list![
                item(1, "185349003", "Encounter for check up (procedure)", cents),
                item(2, "430193006", "Medication reconciliation", 1550),
            ],
            "total": money(cents + 1550),
        };
        self.add("Claim", &id, visit.start.plus_days(1), body);
    }

    fn letter(&mut self, person: &Person, visit: &Visit) {
        let id = self.draw.uuid();
        let text = pick(&LETTERS, person.number);
        let written: Moment = visit.start.plus_seconds(3000);
        let body = object! {
            "masterIdentifier": object! { "system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:{id}") },
            "status": "current",
            "docStatus": "final",
            "type": concept(LOINC, "11506-3", "Progress note"),
            "subject": person.reference(),
            "date": written.instant(person.number, 75),
            "author": list![refer("Practitioner", visit.practitioner)],
            "custodian": refer("Organization", CLINIC),
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
        self.add("DocumentReference", &id, written, body);
    }
}

/// RFC 4648, with padding.
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
