//! What was measured: vital signs, laboratory values, smoking status.

use super::super::json::{Json, list, object};
use super::people::{LABORATORY, Person};
use super::{LOINC, SNOMED, Town, Visit, code, concept, decimal, pick, quantity, refer};

/// A laboratory test: LOINC code and words, unit and UCUM code, places, lowest normal and highest normal value, and the
/// lowest and highest value seen here (all scaled by the places).
struct Test {
    code: &'static str,
    words: &'static str,
    unit: (&'static str, &'static str),
    places: u32,
    normal: (i64, i64),
    seen: (i64, i64),
}

#[rustfmt::skip]
const TESTS: [Test; 6] = [
    Test { code: "4548-4", words: "Hemoglobin A1c/Hemoglobin.total in Blood", unit: ("%", "%"), places: 1, normal: (40, 56), seen: (48, 82) },
    Test { code: "2160-0", words: "Creatinine [Mass/volume] in Serum or Plasma", unit: ("mg/dL", "mg/dL"), places: 2, normal: (60, 120), seen: (60, 150) },
    Test { code: "2345-7", words: "Glucose [Mass/volume] in Serum or Plasma", unit: ("mg/dL", "mg/dL"), places: 0, normal: (70, 99), seen: (72, 160) },
    Test { code: "718-7", words: "Hemoglobin [Mass/volume] in Blood", unit: ("g/dL", "g/dL"), places: 1, normal: (120, 175), seen: (100, 172) },
    Test { code: "2823-3", words: "Potassium [Moles/volume] in Serum or Plasma", unit: ("mmol/L", "mmol/L"), places: 2, normal: (350, 510), seen: (340, 520) },
    Test { code: "2951-2", words: "Sodium [Moles/volume] in Serum or Plasma", unit: ("mmol/L", "mmol/L"), places: 0, normal: (136, 145), seen: (134, 146) },
];

const SMOKING: [(&str, &str); 3] = [("266919005", "Never smoked tobacco"), ("8517006", "Ex-smoker"), ("449868002", "Smokes tobacco daily")];

impl Town {
    /// All observations of one person; the ids of the laboratory ones.
    pub(super) fn measures(&mut self, person: &Person, visits: &[Visit]) -> Vec<String> {
        for (nth, visit) in visits.iter().enumerate() {
            self.blood_pressure(person, visit, nth);
            self.weight(person, visit, nth);
            match nth {
                0 => self.height(person, visit),
                1 => self.temperature(person, visit),
                _ => self.heart_rate(person, visit),
            }
        }
        let mut labs = Vec::new();
        if let [first, second, ..] = visits {
            self.smoking(person, first);
            for nth in 0..4 {
                labs.push(self.test(person, second, nth + person.number));
            }
            if person.number.is_multiple_of(3) {
                labs.push(self.c_reactive_protein(person, second));
            }
        }
        labs
    }

    fn blood_pressure(&mut self, person: &Person, visit: &Visit, nth: usize) {
        let systolic = 108 + self.draw.below(42);
        let diastolic = 62 + self.draw.below(30);
        let part = |loinc: &str, words: &str, value: i64| {
            object! {
                "code": concept(LOINC, loinc, words),
                "valueQuantity": quantity(decimal(value, 0), "mmHg", "mm[Hg]"),
            }
        };
        // Once the cuff slipped: a component without value must say why.
        let lower = if person.number == 9 && nth == 3 {
            object! {
                "code": concept(LOINC, "8462-4", "Diastolic blood pressure"),
                "dataAbsentReason": concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error", "Error"),
            }
        } else {
            part("8462-4", "Diastolic blood pressure", diastolic)
        };
        let components = list![part("8480-6", "Systolic blood pressure", systolic), lower];
        let panel = concept(LOINC, "85354-9", "Blood pressure panel with all children optional");
        self.vital(person, visit, panel, ("component", components));
    }

    fn weight(&mut self, person: &Person, visit: &Visit, nth: usize) {
        // Half of them end in a zero that a careless reader loses: 81.30, 74.00.
        let drift = (self.draw.below(40) - 15) * if nth.is_multiple_of(2) { 10 } else { 1 };
        let kilograms = decimal(person.weight / 10 + drift, 2);
        let value = quantity(kilograms, "kg", "kg");
        self.vital(person, visit, concept(LOINC, "29463-7", "Body weight"), ("valueQuantity", value));
    }

    fn height(&mut self, person: &Person, visit: &Visit) {
        let value = quantity(decimal(person.height, 1), "cm", "cm");
        self.vital(person, visit, concept(LOINC, "8302-2", "Body height"), ("valueQuantity", value));
    }

    fn temperature(&mut self, person: &Person, visit: &Visit) {
        let tenths = pick(&[370, 368, 366, 372, 370, 385], person.number);
        let value = quantity(decimal(tenths, 1), "°C", "Cel");
        self.vital(person, visit, concept(LOINC, "8310-5", "Body temperature"), ("valueQuantity", value));
    }

    fn heart_rate(&mut self, person: &Person, visit: &Visit) {
        let value = quantity(decimal(58 + self.draw.below(34), 0), "/min", "/min");
        self.vital(person, visit, concept(LOINC, "8867-4", "Heart rate"), ("valueQuantity", value));
    }

    fn vital(&mut self, person: &Person, visit: &Visit, what: Json, (key, value): (&'static str, Json)) {
        let id = self.draw.uuid();
        let mut body = observation("vital-signs", what, person, visit);
        body.push((key, value));
        self.add_sorted("Observation", "vital-signs", &id, visit.start.plus_seconds(240), Json::Object(body));
    }

    fn smoking(&mut self, person: &Person, visit: &Visit) {
        let id = self.draw.uuid();
        let (status, words) = pick(&SMOKING, person.smoking);
        let mut body = observation("social-history", concept(LOINC, "72166-2", "Tobacco smoking status"), person, visit);
        body.push(("valueCodeableConcept", concept(SNOMED, status, words)));
        self.add_sorted("Observation", "social-history", &id, visit.start.plus_seconds(200), Json::Object(body));
    }

    fn test(&mut self, person: &Person, visit: &Visit, number: usize) -> String {
        let index = number % TESTS.len();
        let Some(test) = TESTS.get(index) else {
            return String::new();
        };
        let span = test.seen.1 - test.seen.0;
        // Two values are set by hand: 7.0 and 1.10 must leave as they came.
        let value = match (person.number, test.code) {
            (0, "4548-4") => 70,
            (0, "2160-0") => 110,
            _ => test.seen.0 + self.draw.below(span + 1),
        };
        let flag = match value {
            low if low < test.normal.0 => ("L", "Low"),
            high if high > test.normal.1 => ("H", "High"),
            _ => ("N", "Normal"),
        };
        let bound = |value: i64| quantity(decimal(value, test.places), test.unit.0, test.unit.1);
        let result = bound(value);
        let range = object! { "low": bound(test.normal.0), "high": bound(test.normal.1) };
        self.lab(person, visit, concept(LOINC, test.code, test.words), result, Some(flag), Some(range))
    }

    /// Below what the method can see: a comparator, and one exponent.
    fn c_reactive_protein(&mut self, person: &Person, visit: &Visit) -> String {
        let value = if person.number == 3 { "5.0E-1" } else { "0.50" };
        let result = object! {
            "value": Json::Spelled(value.to_owned()),
            "comparator": "<",
            "unit": "mg/L",
            "system": "http://unitsofmeasure.org",
            "code": "mg/L",
        };
        let what = concept(LOINC, "1988-5", "C reactive protein [Mass/volume] in Serum or Plasma");
        self.lab(person, visit, what, result, None, None)
    }

    fn lab(&mut self, person: &Person, visit: &Visit, what: Json, result: Json, flag: Option<(&str, &str)>, range: Option<Json>) -> String {
        let id = self.draw.uuid();
        let flags = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        let mut body = observation("laboratory", what, person, visit);
        let issued = visit.start.plus_seconds(14_400 + self.draw.below(20_000));
        body.push(("issued", Json::from(issued.instant(0, self.draw.below(1000)))));
        body.push(("performer", list![refer("Organization", LABORATORY)]));
        body.push(("valueQuantity", result));
        body.push(("interpretation", Json::from(flag.map(|(flag, words)| list![concept(flags, flag, words)]))));
        body.push(("referenceRange", Json::from(range.map(|range| list![range]))));
        self.add_sorted("Observation", "laboratory", &id, issued, Json::Object(body));
        id
    }
}

/// What all observations have in common.
fn observation(category: &str, what: Json, person: &Person, visit: &Visit) -> Vec<(&'static str, Json)> {
    vec![
        ("status", Json::from("final")),
        ("category", list![code("http://terminology.hl7.org/CodeSystem/observation-category", category)]),
        ("code", what),
        ("subject", person.reference()),
        ("encounter", visit.reference()),
        ("effectiveDateTime", Json::from(visit.start.date_time())),
    ]
}
