//! Observations: vital signs, laboratory results and smoking status.

use super::super::json::{Json, list, object};
use super::people::{LABORATORY, PatientProfile};
use super::{LOINC, LakeBuilder, SNOMED, VisitSummary, code, concept, decimal, pick, quantity, reference_to};

/// Laboratory test and the range of its generated values.
struct LaboratoryTest {
    /// LOINC code.
    code: &'static str,
    /// Display of the code.
    words: &'static str,
    /// Unit and its UCUM code.
    unit: (&'static str, &'static str),
    /// Decimal places of the values.
    places: u32,
    /// Lowest and highest normal value, as integers scaled by the places.
    normal: (i64, i64),
    /// Lowest and highest generated value, as integers scaled by the places.
    seen: (i64, i64),
}

#[rustfmt::skip]
const LABORATORY_TESTS: [LaboratoryTest; 6] = [
    LaboratoryTest { code: "4548-4", words: "Hemoglobin A1c/Hemoglobin.total in Blood", unit: ("%", "%"), places: 1, normal: (40, 56), seen: (48, 82) },
    LaboratoryTest { code: "2160-0", words: "Creatinine [Mass/volume] in Serum or Plasma", unit: ("mg/dL", "mg/dL"), places: 2, normal: (60, 120), seen: (60, 150) },
    LaboratoryTest { code: "2345-7", words: "Glucose [Mass/volume] in Serum or Plasma", unit: ("mg/dL", "mg/dL"), places: 0, normal: (70, 99), seen: (72, 160) },
    LaboratoryTest { code: "718-7", words: "Hemoglobin [Mass/volume] in Blood", unit: ("g/dL", "g/dL"), places: 1, normal: (120, 175), seen: (100, 172) },
    LaboratoryTest { code: "2823-3", words: "Potassium [Moles/volume] in Serum or Plasma", unit: ("mmol/L", "mmol/L"), places: 2, normal: (350, 510), seen: (340, 520) },
    LaboratoryTest { code: "2951-2", words: "Sodium [Moles/volume] in Serum or Plasma", unit: ("mmol/L", "mmol/L"), places: 0, normal: (136, 145), seen: (134, 146) },
];

/// SNOMED CT code and display.
const SMOKING: [(&str, &str); 3] = [("266919005", "Never smoked tobacco"), ("8517006", "Ex-smoker"), ("449868002", "Smokes tobacco daily")];

impl LakeBuilder {
    /// Adds all observations of one patient. Returns the ids of the laboratory results.
    pub(super) fn add_observations(&mut self, patient: &PatientProfile, visits: &[VisitSummary]) -> Vec<String> {
        for (nth, visit) in visits.iter().enumerate() {
            self.add_blood_pressure(patient, visit, nth);
            self.add_weight(patient, visit, nth);
            match nth {
                0 => self.add_height(patient, visit),
                1 => self.add_temperature(patient, visit),
                _ => self.add_heart_rate(patient, visit),
            }
        }
        let mut labs = Vec::new();
        if let [first, second, ..] = visits {
            self.add_smoking_status(patient, first);
            for nth in 0..4 {
                labs.push(self.add_laboratory_test(patient, second, nth + patient.number));
            }
            if patient.number.is_multiple_of(3) {
                labs.push(self.add_c_reactive_protein(patient, second));
            }
        }
        labs
    }

    /// Adds the two blood pressures of a visit in one observation. A single observation of the lake lacks one of the values.
    fn add_blood_pressure(&mut self, patient: &PatientProfile, visit: &VisitSummary, nth: usize) {
        let systolic = 108 + self.random.below(42);
        let diastolic = 62 + self.random.below(30);
        let component = |loinc: &str, words: &str, value: i64| {
            object! {
                "code": concept(LOINC, loinc, words),
                "valueQuantity": quantity(decimal(value, 0), "mmHg", "mm[Hg]"),
            }
        };
        // One component has no value, and so must have a dataAbsentReason.
        let lower = if patient.number == 9 && nth == 3 {
            object! {
                "code": concept(LOINC, "8462-4", "Diastolic blood pressure"),
                "dataAbsentReason": concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error", "Error"),
            }
        } else {
            component("8462-4", "Diastolic blood pressure", diastolic)
        };
        let components = list![component("8480-6", "Systolic blood pressure", systolic), lower];
        let panel = concept(LOINC, "85354-9", "Blood pressure panel with all children optional");
        self.add_vital_sign(patient, visit, panel, ("component", components));
    }

    /// Adds the body weight at the `nth` visit.
    fn add_weight(&mut self, patient: &PatientProfile, visit: &VisitSummary, nth: usize) {
        // Half of the values end in zeros, which an export must keep: 81.30, 74.00.
        let drift = (self.random.below(40) - 15) * if nth.is_multiple_of(2) { 10 } else { 1 };
        let kilograms = decimal(patient.weight / 10 + drift, 2);
        let value = quantity(kilograms, "kg", "kg");
        self.add_vital_sign(patient, visit, concept(LOINC, "29463-7", "Body weight"), ("valueQuantity", value));
    }

    /// Adds the body height.
    fn add_height(&mut self, patient: &PatientProfile, visit: &VisitSummary) {
        let value = quantity(decimal(patient.height, 1), "cm", "cm");
        self.add_vital_sign(patient, visit, concept(LOINC, "8302-2", "Body height"), ("valueQuantity", value));
    }

    /// Adds the body temperature.
    fn add_temperature(&mut self, patient: &PatientProfile, visit: &VisitSummary) {
        let tenths = pick(&[370, 368, 366, 372, 370, 385], patient.number);
        let value = quantity(decimal(tenths, 1), "°C", "Cel");
        self.add_vital_sign(patient, visit, concept(LOINC, "8310-5", "Body temperature"), ("valueQuantity", value));
    }

    /// Adds the heart rate.
    fn add_heart_rate(&mut self, patient: &PatientProfile, visit: &VisitSummary) {
        let value = quantity(decimal(58 + self.random.below(34), 0), "/min", "/min");
        self.add_vital_sign(patient, visit, concept(LOINC, "8867-4", "Heart rate"), ("valueQuantity", value));
    }

    /// Adds a vital sign. `what` is its code. `key` and `value` are the member with its result, such as `valueQuantity` or `component`.
    fn add_vital_sign(&mut self, patient: &PatientProfile, visit: &VisitSummary, what: Json, (key, value): (&'static str, Json)) {
        let id = self.random.uuid();
        let mut body = observation("vital-signs", what, patient, visit);
        body.push((key, value));
        self.add_with_category("Observation", "vital-signs", &id, visit.start.plus_seconds(240), Json::Object(body));
    }

    /// Adds the smoking status.
    fn add_smoking_status(&mut self, patient: &PatientProfile, visit: &VisitSummary) {
        let id = self.random.uuid();
        let (status, words) = pick(&SMOKING, patient.smoking);
        let mut body = observation("social-history", concept(LOINC, "72166-2", "Tobacco smoking status"), patient, visit);
        body.push(("valueCodeableConcept", concept(SNOMED, status, words)));
        self.add_with_category("Observation", "social-history", &id, visit.start.plus_seconds(200), Json::Object(body));
    }

    /// Adds the result of a laboratory test with its reference range, and returns its id. `number` selects the test.
    fn add_laboratory_test(&mut self, patient: &PatientProfile, visit: &VisitSummary, number: usize) -> String {
        let index = number % LABORATORY_TESTS.len();
        let Some(test) = LABORATORY_TESTS.get(index) else {
            return String::new();
        };
        let span = test.seen.1 - test.seen.0;
        // Two fixed values, 7.0 and 1.10, for tests that check that decimals are kept.
        let value = match (patient.number, test.code) {
            (0, "4548-4") => 70,
            (0, "2160-0") => 110,
            _ => test.seen.0 + self.random.below(span + 1),
        };
        let flag = match value {
            low if low < test.normal.0 => ("L", "Low"),
            high if high > test.normal.1 => ("H", "High"),
            _ => ("N", "Normal"),
        };
        let bound = |value: i64| quantity(decimal(value, test.places), test.unit.0, test.unit.1);
        let result = bound(value);
        let range = object! { "low": bound(test.normal.0), "high": bound(test.normal.1) };
        self.add_laboratory_result(patient, visit, concept(LOINC, test.code, test.words), result, Some(flag), Some(range))
    }

    /// Adds a result below the detection limit: with a comparator, and once with an exponent.
    fn add_c_reactive_protein(&mut self, patient: &PatientProfile, visit: &VisitSummary) -> String {
        let value = if patient.number == 3 { "5.0E-1" } else { "0.50" };
        let result = object! {
            "value": Json::Raw(value.to_owned()),
            "comparator": "<",
            "unit": "mg/L",
            "system": "http://unitsofmeasure.org",
            "code": "mg/L",
        };
        let what = concept(LOINC, "1988-5", "C reactive protein [Mass/volume] in Serum or Plasma");
        self.add_laboratory_result(patient, visit, what, result, None, None)
    }

    /// Adds a laboratory result with the code `what`, and returns its id. `flag` is the interpretation: code and display.
    fn add_laboratory_result(
        &mut self,
        patient: &PatientProfile,
        visit: &VisitSummary,
        what: Json,
        result: Json,
        flag: Option<(&str, &str)>,
        range: Option<Json>,
    ) -> String {
        let id = self.random.uuid();
        let flags = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        let mut body = observation("laboratory", what, patient, visit);
        let issued = visit.start.plus_seconds(14_400 + self.random.below(20_000));
        body.push(("issued", Json::from(issued.instant(0, self.random.below(1000)))));
        body.push(("performer", list![reference_to("Organization", LABORATORY)]));
        body.push(("valueQuantity", result));
        body.push(("interpretation", Json::from(flag.map(|(flag, words)| list![concept(flags, flag, words)]))));
        body.push(("referenceRange", Json::from(range.map(|range| list![range]))));
        self.add_with_category("Observation", "laboratory", &id, issued, Json::Object(body));
        id
    }
}

/// Returns the members that all observations have.
fn observation(category: &str, what: Json, patient: &PatientProfile, visit: &VisitSummary) -> Vec<(&'static str, Json)> {
    vec![
        ("status", Json::from("final")),
        ("category", list![code("http://terminology.hl7.org/CodeSystem/observation-category", category)]),
        ("code", what),
        ("subject", patient.reference()),
        ("encounter", visit.reference()),
        ("effectiveDateTime", Json::from(visit.start.date_time())),
    ]
}
