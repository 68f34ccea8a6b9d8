//! Encounters, conditions, procedures, medication requests, immunizations and allergies.

use super::super::json::{Json, list, object};
use super::people::{CLINIC, HOSPITAL, NURSES, PatientProfile};
use super::{LakeBuilder, SNOMED, Timestamp, VisitSummary, code, coding, concept, decimal, pick, quantity, reference_to};

/// SNOMED CT code, display, and true for lifelong problems.
const PROBLEMS: [(&str, &str, bool); 11] = [
    ("44054006", "Diabetes mellitus type 2", true),
    ("38341003", "Hypertensive disorder", true),
    ("55822004", "Hyperlipidemia", true),
    ("195967001", "Asthma", true),
    ("37796009", "Migraine", true),
    ("271737000", "Anemia", false),
    ("13645005", "Chronic obstructive pulmonary disease", true),
    ("10509002", "Acute bronchitis", false),
    ("239873007", "Osteoarthritis of knee", true),
    ("65363002", "Otitis media", false),
    ("44465007", "Sprain of ankle", false),
];

/// RxNorm code, display, and daily doses of the drug for each of `PROBLEMS`.
const DRUGS: [(&str, &str, usize); 11] = [
    ("860975", "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet", 2),
    ("314076", "lisinopril 10 MG Oral Tablet", 1),
    ("314231", "simvastatin 10 MG Oral Tablet", 1),
    ("745752", "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler", 4),
    ("313782", "acetaminophen 325 MG Oral Tablet", 3),
    ("310325", "ferrous sulfate 325 MG Oral Tablet", 1),
    ("745752", "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler", 4),
    ("308182", "amoxicillin 250 MG Oral Capsule", 3),
    ("313782", "acetaminophen 325 MG Oral Tablet", 3),
    ("308182", "amoxicillin 250 MG Oral Capsule", 3),
    ("313782", "acetaminophen 325 MG Oral Tablet", 2),
];

/// SNOMED CT code, display, category, and code and display of the reaction.
const ALLERGIES: [(&str, &str, &str, (&str, &str)); 4] = [
    ("91936005", "Allergy to penicillin", "medication", ("271807003", "Eruption of skin")),
    ("91935009", "Allergy to peanut", "food", ("39579001", "Anaphylaxis")),
    ("300916003", "Latex allergy", "environment", ("247472004", "Wheal")),
    ("232347008", "Dander (animal) allergy", "environment", ("76067001", "Sneezing")),
];

/// SNOMED CT code and display.
const PROCEDURES: [(&str, &str); 5] = [
    ("430193006", "Medication reconciliation"),
    ("29303009", "Electrocardiographic procedure"),
    ("23426006", "Measurement of respiratory function"),
    ("710824005", "Assessment of health and social care needs"),
    ("76601001", "Intramuscular injection"),
];

/// CVX code and display.
const VACCINES: [(&str, &str); 4] = [
    ("140", "Influenza, seasonal, injectable, preservative free"),
    ("113", "Td (adult), 5 Lf tetanus toxoid, preservative free, adsorbed"),
    ("133", "Pneumococcal conjugate PCV 13"),
    ("03", "MMR"),
];

impl LakeBuilder {
    /// Adds four encounters, about a year apart.
    pub(super) fn add_encounters(&mut self, patient: &PatientProfile) -> Vec<VisitSummary> {
        (0..4).map(|nth| self.add_encounter(patient, nth)).collect()
    }

    /// Adds the `nth` encounter of a patient.
    fn add_encounter(&mut self, patient: &PatientProfile, nth: usize) -> VisitSummary {
        let days = nth as i64 * 320 + patient.number as i64 * 17 + self.random.below(40);
        let start = Timestamp::START.plus_days(days).plus_seconds(7 * 3600 + self.random.below(32_000));
        let id = self.random.uuid();
        let practitioner = if nth == 2 { pick(&NURSES, patient.number) } else { patient.practitioner() };
        let stay = (patient.number + nth) % 11 == 3;
        let (class, words) = match (stay, nth) {
            (true, _) => ("IMP", "inpatient encounter"),
            (false, 2) if patient.number.is_multiple_of(3) => ("VR", "virtual"),
            _ => ("AMB", "ambulatory"),
        };
        let end = if stay { start.plus_days(3) } else { start.plus_seconds(900 + self.random.below(1800)) };
        let participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
        let disposition = "http://terminology.hl7.org/CodeSystem/discharge-disposition";
        let body = object! {
            "status": "finished",
            "class": coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", class, words),
            "type": list![match nth {
                0 => concept(SNOMED, "185349003", "Encounter for check up (procedure)"),
                _ => concept(SNOMED, "308335008", "Patient encounter procedure"),
            }],
            "subject": patient.reference(),
            "participant": list![object! {
                "type": list![concept(participation, "PPRF", "primary performer")],
                "individual": reference_to("Practitioner", practitioner),
            }],
            "period": object! { "start": start.date_time(), "end": end.date_time() },
            "hospitalization": stay.then(|| object! { "dischargeDisposition": concept(disposition, "home", "Home") }),
            "serviceProvider": reference_to("Organization", if stay { HOSPITAL } else { CLINIC }),
        };
        self.add_resource("Encounter", &id, start, body);
        VisitSummary { id, practitioner, start }
    }

    /// Adds all clinical records except observations. Returns the ids of the conditions.
    pub(super) fn add_clinical_records(&mut self, patient: &PatientProfile, visits: &[VisitSummary]) -> Vec<String> {
        let problems = self.add_conditions(patient, visits);
        for ((id, number), visit) in problems.iter().zip(patient.problems).zip(visits) {
            if *number != 9 || patient.number % 2 == 1 {
                self.add_medication_request(patient, visit, *number, id);
            }
        }
        for (nth, visit) in visits.iter().enumerate() {
            if nth % 2 == 1 {
                self.add_immunization(patient, visit, nth);
            }
            if (nth + patient.number).is_multiple_of(3) {
                self.add_procedure(patient, visit, &problems);
            }
        }
        if let Some(visit) = visits.first() {
            for number in patient.allergies {
                self.add_allergy(patient, visit, *number);
            }
        }
        problems
    }

    /// Adds a condition for each problem of a patient, and returns their ids.
    fn add_conditions(&mut self, patient: &PatientProfile, visits: &[VisitSummary]) -> Vec<String> {
        let mut ids = Vec::new();
        for (number, visit) in patient.problems.iter().zip(visits) {
            let (problem, words, lifelong) = pick(&PROBLEMS, *number);
            let id = self.random.uuid();
            let status = if lifelong { "active" } else { "resolved" };
            let category = if lifelong { "problem-list-item" } else { "encounter-diagnosis" };
            let notes = object! {
                "authorReference": reference_to("Practitioner", visit.practitioner),
                "text": "Caf\u{e9} na\u{ef}vet\u{e9}: \"better since spring\" \u{1f642}\nreview in 6 months",
            };
            let body = object! {
                "clinicalStatus": code("http://terminology.hl7.org/CodeSystem/condition-clinical", status),
                "verificationStatus": code("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed"),
                "category": list![code("http://terminology.hl7.org/CodeSystem/condition-category", category)],
                "code": concept(SNOMED, problem, words),
                "subject": patient.reference(),
                "encounter": visit.reference(),
                "onsetDateTime": visit.start.plus_days(-20 - self.random.below(300)).date(),
                "abatementDateTime": (!lifelong).then(|| visit.start.plus_days(21).date()),
                "recordedDate": visit.start.date_time(),
                "note": patient.number.is_multiple_of(4).then(|| list![notes]),
            };
            self.add_resource("Condition", &id, visit.start.plus_seconds(300), body);
            ids.push(id);
        }
        ids
    }

    /// Adds the prescription for a problem. `number` selects the drug, and `problem` is the id of the condition.
    fn add_medication_request(&mut self, patient: &PatientProfile, visit: &VisitSummary, number: usize, problem: &str) {
        let (drug, words, daily) = pick(&DRUGS, number);
        let lifelong = pick(&PROBLEMS, number).2;
        let id = self.random.uuid();
        let timing = object! {
            "repeat": object! { "frequency": daily, "period": decimal(10, 1), "periodUnit": "d" },
        };
        let body = object! {
            "status": if lifelong { "active" } else { "completed" },
            "intent": "order",
            "medicationCodeableConcept": concept("http://www.nlm.nih.gov/research/umls/rxnorm", drug, words),
            "subject": patient.reference(),
            "encounter": visit.reference(),
            "authoredOn": visit.start.date_time(),
            "requester": reference_to("Practitioner", visit.practitioner),
            "reasonReference": list![reference_to("Condition", problem)],
            "dosageInstruction": list![object! {
                "sequence": 1usize,
                "text": format!("{daily} × daily, with water 💧"),
                "timing": timing,
                "asNeededBoolean": number == 4,
            }],
            "dispenseRequest": object! {
                "numberOfRepeatsAllowed": if lifelong { 3usize } else { 0 },
                "quantity": object! { "value": decimal(daily as i64 * 300, 1), "unit": "1" },
            },
        };
        self.add_resource("MedicationRequest", &id, visit.start.plus_seconds(600), body);
    }

    /// Adds an immunization, or a refused one.
    fn add_immunization(&mut self, patient: &PatientProfile, visit: &VisitSummary, nth: usize) {
        let (vaccine, words) = pick(&VACCINES, patient.number + nth);
        let refused = patient.number == 6 && nth == 1;
        let id = self.random.uuid();
        let objection = concept("http://terminology.hl7.org/CodeSystem/v3-ActReason", "PATOBJ", "patient objection");
        let route = concept("http://terminology.hl7.org/CodeSystem/v3-RouteOfAdministration", "IM", "Injection, intramuscular");
        let body = object! {
            "status": if refused { "not-done" } else { "completed" },
            "statusReason": refused.then_some(objection),
            "vaccineCode": concept("http://hl7.org/fhir/sid/cvx", vaccine, words),
            "patient": patient.reference(),
            "encounter": visit.reference(),
            "occurrenceDateTime": visit.start.date_time(),
            "primarySource": nth == 1,
            "lotNumber": (!refused).then(|| format!("LOT-{:05}", self.random.below(90_000) + 10_000)),
            "route": (!refused).then_some(route),
            "doseQuantity": (!refused).then(|| quantity(decimal(50, 2), "mL", "mL")),
            "performer": list![object! { "actor": reference_to("Practitioner", pick(&NURSES, nth)) }],
        };
        self.add_resource("Immunization", &id, visit.start.plus_seconds(900), body);
    }

    /// Adds a procedure for the first of the `problems`, which are ids of conditions.
    fn add_procedure(&mut self, patient: &PatientProfile, visit: &VisitSummary, problems: &[String]) {
        let (procedure, words) = pick(&PROCEDURES, patient.number + problems.len());
        let id = self.random.uuid();
        // One `urn:uuid:` reference, as left over from transaction Bundles.
        let reason = problems.first().map(|id| match patient.number {
            4 => list![object! { "reference": format!("urn:uuid:{id}"), "type": "Condition" }],
            _ => list![reference_to("Condition", id)],
        });
        let body = object! {
            "status": "completed",
            "code": concept(SNOMED, procedure, words),
            "subject": patient.reference(),
            "encounter": visit.reference(),
            "performedPeriod": object! {
                "start": visit.start.plus_seconds(120).date_time(),
                "end": visit.start.plus_seconds(840).date_time(),
            },
            "performer": list![object! { "actor": reference_to("Practitioner", visit.practitioner) }],
            "reasonReference": reason,
            "note": (patient.number == 1).then(|| list![object! { "text": escaped() }]),
        };
        self.add_resource("Procedure", &id, visit.start.plus_seconds(840), body);
    }

    /// Adds an allergy. `number` selects the substance.
    fn add_allergy(&mut self, patient: &PatientProfile, visit: &VisitSummary, number: usize) {
        let (allergy, words, category, (sign, sign_words)) = pick(&ALLERGIES, number);
        let id = self.random.uuid();
        let base = "http://terminology.hl7.org/CodeSystem/allergyintolerance";
        let body = object! {
            "clinicalStatus": code(&format!("{base}-clinical"), "active"),
            "verificationStatus": code(&format!("{base}-verification"), "confirmed"),
            "type": "allergy",
            "category": list![category],
            "criticality": if number == 1 { "high" } else { "low" },
            "code": concept(SNOMED, allergy, words),
            "patient": patient.reference(),
            "recordedDate": visit.start.date_time(),
            "reaction": list![object! {
                "manifestation": list![concept(SNOMED, sign, sign_words)],
                "severity": if number == 1 { "severe" } else { "mild" },
            }],
        };
        self.add_resource("AllergyIntolerance", &id, visit.start.plus_seconds(1200), body);
    }
}

/// Returns a string with unnecessary escapes, which an export must keep.
fn escaped() -> Json {
    Json::Raw(r#""caf\u00e9 \/ th\u00e9 \ud83c\udf75, r\u00e9vis\u00e9""#.to_owned())
}
