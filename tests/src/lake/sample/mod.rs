//! The sample lake: twelve invented people in a small invented town and what their clinics wrote down about them.
//!
//! All of it is made here, by plain arithmetic from one seed, so the same program writes the same bytes on every
//! machine. Codes are real (SNOMED CT, LOINC, RxNorm, CVX, HL7), people and places are not. The files differ in name,
//! depth, packing and line ending on purpose: together they show what a lake may look like.

use std::path::Path;

use super::codec::{Packing, Sink};
use super::json::{Json, Spacing};
use super::{LakeError, must_be_empty};

mod care;
mod measures;
mod papers;
mod people;

/// Any other number makes another lake of the same shape.
const SEED: u64 = 0x4845_4144_5241_4345;

/// Writes the sample lake into an empty folder.
pub fn write(dir: &Path) -> Result<(), LakeError> {
    must_be_empty(dir)?;
    let resources = resources();
    for file in FILES {
        let path = dir.join(file.name);
        let packing = Packing::of(&path).unwrap_or(Packing::Plain);
        let mut sink = Sink::create(&path, packing).map_err(LakeError::at(&path))?;
        sink.write(file.text(&resources).as_bytes()).map_err(LakeError::at(&path))?;
        sink.finish().map_err(LakeError::at(&path))?;
    }
    Ok(())
}

/// One file of the lake: what it holds and how it is written.
struct LakeFile {
    name: &'static str,
    holds: fn(&Resource) -> bool,
    newline: &'static str,
    /// Whether a newline follows the last line too.
    ended: bool,
    spacing: Spacing,
}

const fn file(name: &'static str, holds: fn(&Resource) -> bool) -> LakeFile {
    LakeFile { name, holds, newline: "\n", ended: true, spacing: Spacing::Tight }
}

const FILES: [LakeFile; 14] = [
    file("Patient.ndjson", |it| it.kind == "Patient"),
    LakeFile { ended: false, ..file("Organization.ndjson", |it| it.kind == "Organization") },
    LakeFile { newline: "\r\n", ..file("Practitioner.ndjson", |it| it.kind == "Practitioner") },
    file("Encounter/2023/visits.ndjson", |it| it.kind == "Encounter" && it.year == 2023),
    file("Encounter/2024/visits.ndjson", |it| it.kind == "Encounter" && it.year == 2024),
    file("Encounter/since-2025/visits.ndjson.gz", |it| it.kind == "Encounter" && it.year > 2024),
    file("Observation/vital-signs-0.ndjson", |it| it.kind == "Observation" && it.category == "vital-signs"),
    file("Observation/laboratory-1.ndjson.gz", |it| it.kind == "Observation" && it.category == "laboratory"),
    file("type=Condition/part-0.ndjson.zst", |it| it.kind == "Condition"),
    LakeFile { spacing: Spacing::Airy, ..file("MedicationRequest.000.ndjson", |it| it.kind == "MedicationRequest") },
    file("DocumentReference.ndjson", |it| it.kind == "DocumentReference"),
    file("type=Group/groups.ndjson", |it| it.kind == "Group"),
    file("Claim/claims.ndjson", |it| it.kind == "Claim"),
    // The line's own resourceType decides: this file holds all that no other does.
    file("other/mixed.ndjson", |it| match it.kind {
        "Observation" => it.category == "social-history",
        kind => ["Procedure", "Immunization", "AllergyIntolerance", "DiagnosticReport", "CarePlan"].contains(&kind),
    }),
];

impl LakeFile {
    fn text(&self, resources: &[Resource]) -> String {
        let chosen = resources.iter().filter(|resource| (self.holds)(resource));
        let mut lines = chosen.map(|resource| resource.body.line(self.spacing)).collect::<Vec<_>>();
        if self.ended {
            lines.push(String::new());
        }
        lines.join(self.newline)
    }
}

/// One resource and what the choice of its file needs to know.
struct Resource {
    kind: &'static str,
    category: &'static str,
    year: i64,
    body: Json,
}

/// All resources of the lake.
fn resources() -> Vec<Resource> {
    let mut town = Town { draw: Draw::new(SEED), written: 0, resources: Vec::new() };
    town.people();
    for person in &people::PERSONS {
        let visits = town.visits(person);
        let problems = town.care(person, &visits);
        let labs = town.measures(person, &visits);
        town.papers(person, &visits, &problems, &labs);
    }
    town.groups();
    // What was made in one order is spread over the files in another: mixed files really are mixed.
    town.resources
}

/// The lake while it is made.
struct Town {
    draw: Draw,
    written: usize,
    resources: Vec<Resource>,
}

/// One encounter, as far as others refer to it.
struct Visit {
    id: String,
    practitioner: &'static str,
    start: Moment,
}

impl Visit {
    fn reference(&self) -> Json {
        refer("Encounter", &self.id)
    }
}

impl Town {
    /// Adds a resource. `members` follow `resourceType`, `id` and `meta`; every ninth spells its type last, which is
    /// as good JSON as any.
    fn add(&mut self, kind: &'static str, id: &str, happened: Moment, members: Json) {
        self.add_sorted(kind, "", id, happened, members);
    }

    /// The same with a category, for types that are spread over several files.
    fn add_sorted(&mut self, kind: &'static str, category: &'static str, id: &str, happened: Moment, members: Json) {
        let version = pick(&[1, 1, 1, 2, 1, 1, 3, 1, 1, 2, 4], self.written);
        let days = self.draw.below(12) + (version - 1) * 9;
        let updated = happened.plus_days(days).plus_seconds(self.draw.below(9_000) + 600);
        let milliseconds = self.draw.below(1000);
        let mut meta =
            vec![("versionId", Json::from(version.to_string())), ("lastUpdated", Json::from(updated.instant(self.written, milliseconds)))];
        if kind == "Patient" {
            let security = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
            meta.push(("security", Json::from(vec![coding(security, "HTEST", "test health data")])));
        }
        let mut all = vec![("id", Json::from(id)), ("meta", Json::Object(meta))];
        let place = if self.written % 9 == 8 { None } else { Some(0) };
        if let Json::Object(members) = members {
            all.extend(members);
        }
        all.insert(place.unwrap_or(all.len()), ("resourceType", Json::from(kind)));
        self.written += 1;
        self.resources.push(Resource { kind, category, year: happened.year(), body: Json::Object(all) });
    }
}

/// SplitMix64: small, good enough, and the same everywhere.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit - 1`.
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        let limit = limit.max(1).unsigned_abs();
        i64::try_from(self.next() % limit).unwrap_or_default()
    }

    /// One of `letters`.
    pub(super) fn letter(&mut self, letters: &[u8]) -> u8 {
        let index = self.next() % (letters.len() as u64).max(1);
        usize::try_from(index).ok().and_then(|index| letters.get(index)).copied().unwrap_or(b'0')
    }

    /// A UUID of version 4.
    fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            8 + (low >> 62),
            (low >> 48) & 0xfff,
            low & 0xffff_ffff_ffff,
        )
    }
}

/// Seconds since 1970 in UTC.
#[derive(Debug, Clone, Copy)]
struct Moment(i64);

impl Moment {
    /// 9 January 2023, a Monday: the day the town's records begin.
    const START: Self = Self(19_366 * 86_400);

    fn plus_days(self, days: i64) -> Self {
        Self(self.0 + days * 86_400)
    }

    fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0 + seconds)
    }

    /// Year, month and day, by Howard Hinnant's `civil_from_days`.
    fn civil(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(86_400) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
    }

    fn year(self) -> i64 {
        self.civil().0
    }

    /// `2024-03-05`
    fn date(self) -> String {
        let (year, month, day) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    fn clock(self) -> String {
        let second = self.0.rem_euclid(86_400);
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }

    /// `2024-03-05T10:20:30+01:00`; the town keeps winter time.
    fn date_time(self) -> String {
        let local = self.plus_seconds(3600);
        format!("{}T{}+01:00", local.date(), local.clock())
    }

    /// One of the spellings a FHIR instant may have: milliseconds, whole seconds with an offset, microseconds.
    fn instant(self, kind: usize, milliseconds: i64) -> String {
        match kind % 13 {
            5 => self.date_time(),
            11 => format!("{}T{}.{milliseconds:03}250Z", self.date(), self.clock()),
            _ => format!("{}T{}.{milliseconds:03}Z", self.date(), self.clock()),
        }
    }
}

/// `Reference` by type and id.
fn refer(kind: &str, id: &str) -> Json {
    Json::Object(vec![("reference", Json::from(format!("{kind}/{id}")))])
}

/// `Coding`
fn coding(system: &str, code: &str, display: &str) -> Json {
    Json::Object(vec![("system", system.into()), ("code", code.into()), ("display", display.into())])
}

/// `CodeableConcept` with one coding and its display as text.
fn concept(system: &str, code: &str, display: &str) -> Json {
    Json::Object(vec![("coding", Json::from(vec![coding(system, code, display)])), ("text", display.into())])
}

/// `CodeableConcept` with one coding that needs no words.
fn code(system: &str, code: &str) -> Json {
    let coding = Json::Object(vec![("system", system.into()), ("code", code.into())]);
    Json::Object(vec![("coding", Json::from(vec![coding]))])
}

/// A decimal with just as many places as told: `decimal(110, 2)` is `1.10`.
fn decimal(scaled: i64, places: u32) -> Json {
    let unit = 10_i64.pow(places);
    let (whole, part) = (scaled / unit, (scaled % unit).abs());
    let sign = if scaled < 0 && whole == 0 { "-" } else { "" };
    Json::Spelled(match places {
        0 => whole.to_string(),
        _ => format!("{sign}{whole}.{part:0width$}", width = places as usize),
    })
}

/// `Quantity` in UCUM units.
fn quantity(value: Json, unit: &str, ucum: &str) -> Json {
    Json::Object(vec![("value", value), ("unit", unit.into()), ("system", "http://unitsofmeasure.org".into()), ("code", ucum.into())])
}

/// One of the items, counted around.
#[expect(clippy::indexing_slicing, reason = "the remainder of a division by N is below N")]
fn pick<T: Copy, const N: usize>(items: &[T; N], n: usize) -> T {
    items[n % N]
}

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
