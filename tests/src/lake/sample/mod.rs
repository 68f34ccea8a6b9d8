//! Generator of the sample lake: the health records of twelve invented patients.
//!
//! Everything is computed from one seed, so the generator writes the same bytes on every machine. Codes are real (SNOMED CT,
//! LOINC, RxNorm, CVX, HL7), people and places are invented. The files differ in name, depth, compression and line endings on
//! purpose, to cover the layouts that a lake may have.

use std::path::Path;

use super::compression::{CompressedFile, Compression};
use super::json::{Json, Spacing};
use super::{LakeError, check_is_empty};

mod clinical;
mod documents;
mod observations;
mod people;

/// Seed of all random values. Another seed gives another lake with the same structure.
const SEED: u64 = 0x4845_4144_5241_4345;

/// Writes the sample lake into an empty folder.
pub fn write(dir: &Path) -> Result<(), LakeError> {
    check_is_empty(dir)?;
    let resources = resources();
    for file in FILES {
        let path = dir.join(file.name);
        let compression = Compression::from_path(&path).unwrap_or(Compression::Plain);
        let mut output = CompressedFile::create(&path, compression).map_err(LakeError::at(&path))?;
        output.write(file.text(&resources).as_bytes()).map_err(LakeError::at(&path))?;
        output.close().map_err(LakeError::at(&path))?;
    }
    Ok(())
}

/// File of the lake: its contents and format.
struct SampleFile {
    name: &'static str,
    contains: fn(&Resource) -> bool,
    line_ending: &'static str,
    /// True if the last line ends with a newline too.
    ends_with_newline: bool,
    spacing: Spacing,
}

/// Describes a file with the usual format.
const fn file(name: &'static str, contains: fn(&Resource) -> bool) -> SampleFile {
    SampleFile { name, contains, line_ending: "\n", ends_with_newline: true, spacing: Spacing::Compact }
}

const FILES: [SampleFile; 14] = [
    file("Patient.ndjson", |it| it.kind == "Patient"),
    SampleFile { ends_with_newline: false, ..file("Organization.ndjson", |it| it.kind == "Organization") },
    SampleFile { line_ending: "\r\n", ..file("Practitioner.ndjson", |it| it.kind == "Practitioner") },
    file("Encounter/2023/visits.ndjson", |it| it.kind == "Encounter" && it.year == 2023),
    file("Encounter/2024/visits.ndjson", |it| it.kind == "Encounter" && it.year == 2024),
    file("Encounter/since-2025/visits.ndjson.gz", |it| it.kind == "Encounter" && it.year > 2024),
    file("Observation/vital-signs-0.ndjson", |it| it.kind == "Observation" && it.category == "vital-signs"),
    file("Observation/laboratory-1.ndjson.gz", |it| it.kind == "Observation" && it.category == "laboratory"),
    file("type=Condition/part-0.ndjson.zst", |it| it.kind == "Condition"),
    SampleFile { spacing: Spacing::Spaced, ..file("MedicationRequest.000.ndjson", |it| it.kind == "MedicationRequest") },
    file("DocumentReference.ndjson", |it| it.kind == "DocumentReference"),
    file("type=Group/groups.ndjson", |it| it.kind == "Group"),
    file("Claim/claims.ndjson", |it| it.kind == "Claim"),
    // Types of lines are read from their resourceType, so a file may hold several. This one holds the rest.
    file("other/mixed.ndjson", |it| match it.kind {
        "Observation" => it.category == "social-history",
        kind => ["Procedure", "Immunization", "AllergyIntolerance", "DiagnosticReport", "CarePlan"].contains(&kind),
    }),
];

impl SampleFile {
    /// Returns the content of the file: the lines of the resources that belong to it.
    fn text(&self, resources: &[Resource]) -> String {
        let chosen = resources.iter().filter(|resource| (self.contains)(resource));
        let mut lines = chosen.map(|resource| resource.body.to_line(self.spacing)).collect::<Vec<_>>();
        if self.ends_with_newline {
            lines.push(String::new());
        }
        lines.join(self.line_ending)
    }
}

/// Resource, with the properties that select its file.
struct Resource {
    kind: &'static str,
    category: &'static str,
    year: i64,
    body: Json,
}

/// Generates all resources of the lake.
fn resources() -> Vec<Resource> {
    let mut builder = LakeBuilder { random: Random::new(SEED), written: 0, resources: Vec::new() };
    builder.add_people();
    for patient in &people::PATIENTS {
        let visits = builder.add_encounters(patient);
        let problems = builder.add_clinical_records(patient, &visits);
        let labs = builder.add_observations(patient, &visits);
        builder.add_documents(patient, &visits, &problems, &labs);
    }
    builder.add_groups();
    // Resources stay in the order of generation, so that the types in mixed files alternate.
    builder.resources
}

/// Lake under construction.
struct LakeBuilder {
    random: Random,
    written: usize,
    resources: Vec<Resource>,
}

/// Properties of an encounter that other resources need.
struct VisitSummary {
    id: String,
    practitioner: &'static str,
    start: Timestamp,
}

impl VisitSummary {
    /// Builds a `Reference` to the encounter.
    fn reference(&self) -> Json {
        reference_to("Encounter", &self.id)
    }
}

impl LakeBuilder {
    /// Adds a resource. `members` follow `resourceType`, `id` and `meta`. Every ninth resource has its type last, which is valid too.
    fn add_resource(&mut self, kind: &'static str, id: &str, happened: Timestamp, members: Json) {
        self.add_with_category(kind, "", id, happened, members);
    }

    /// Adds a resource like [`Self::add_resource`], with the category that selects its file.
    fn add_with_category(&mut self, kind: &'static str, category: &'static str, id: &str, happened: Timestamp, members: Json) {
        let version = pick(&[1, 1, 1, 2, 1, 1, 3, 1, 1, 2, 4], self.written);
        let days = self.random.below(12) + (version - 1) * 9;
        let updated = happened.plus_days(days).plus_seconds(self.random.below(9_000) + 600);
        let milliseconds = self.random.below(1000);
        let mut meta =
            vec![("versionId", Json::from(version.to_string())), ("lastUpdated", Json::from(updated.instant(self.written, milliseconds)))];
        if kind == "Patient" {
            let security = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
            meta.push(("security", Json::from(vec![coding(security, "HTEST", "test health data")])));
        }
        let mut all = vec![("id", Json::from(id)), ("meta", Json::Object(meta))];
        let type_index = if self.written % 9 == 8 { None } else { Some(0) };
        if let Json::Object(members) = members {
            all.extend(members);
        }
        all.insert(type_index.unwrap_or(all.len()), ("resourceType", Json::from(kind)));
        self.written += 1;
        self.resources.push(Resource { kind, category, year: happened.year(), body: Json::Object(all) });
    }
}

/// SplitMix64 random number generator. It gives the same numbers on every platform.
pub(super) struct Random(u64);

impl Random {
    /// Creates a generator. The same seed gives the same numbers.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, which may be any 64-bit number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `limit - 1`.
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        let limit = limit.max(1).unsigned_abs();
        i64::try_from(self.next() % limit).unwrap_or_default()
    }

    /// Returns one of `letters`.
    pub(super) fn letter(&mut self, letters: &[u8]) -> u8 {
        let index = self.next() % (letters.len() as u64).max(1);
        usize::try_from(index).ok().and_then(|index| letters.get(index)).copied().unwrap_or(b'0')
    }

    /// Returns a version 4 UUID.
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

/// Time in seconds since 1970, in UTC.
#[derive(Debug, Clone, Copy)]
struct Timestamp(i64);

impl Timestamp {
    /// Start of the records: 9 January 2023.
    const START: Self = Self(19_366 * 86_400);

    /// Returns the time `days` later.
    fn plus_days(self, days: i64) -> Self {
        Self(self.0 + days * 86_400)
    }

    /// Returns the time `seconds` later.
    fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0 + seconds)
    }

    /// Computes year, month and day, by Howard Hinnant's `civil_from_days`.
    fn civil(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(86_400) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
    }

    /// Returns the year.
    fn year(self) -> i64 {
        self.civil().0
    }

    /// Formats the date: `2024-03-05`.
    fn date(self) -> String {
        let (year, month, day) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Formats the time of day: `10:20:30`.
    fn clock(self) -> String {
        let second = self.0.rem_euclid(86_400);
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }

    /// Formats date and time with a fixed offset: `2024-03-05T10:20:30+01:00`.
    fn date_time(self) -> String {
        let local = self.plus_seconds(3600);
        format!("{}T{}+01:00", local.date(), local.clock())
    }

    /// Formats a FHIR instant in one of three ways: with milliseconds, whole seconds and an offset, or microseconds.
    fn instant(self, kind: usize, milliseconds: i64) -> String {
        match kind % 13 {
            5 => self.date_time(),
            11 => format!("{}T{}.{milliseconds:03}250Z", self.date(), self.clock()),
            _ => format!("{}T{}.{milliseconds:03}Z", self.date(), self.clock()),
        }
    }
}

/// Builds a `Reference` by type and id.
fn reference_to(kind: &str, id: &str) -> Json {
    Json::Object(vec![("reference", Json::from(format!("{kind}/{id}")))])
}

/// Builds a `Coding`.
fn coding(system: &str, code: &str, display: &str) -> Json {
    Json::Object(vec![("system", system.into()), ("code", code.into()), ("display", display.into())])
}

/// Builds a `CodeableConcept` with one coding and its display as text.
fn concept(system: &str, code: &str, display: &str) -> Json {
    Json::Object(vec![("coding", Json::from(vec![coding(system, code, display)])), ("text", display.into())])
}

/// Builds a `CodeableConcept` with one coding without display.
fn code(system: &str, code: &str) -> Json {
    let coding = Json::Object(vec![("system", system.into()), ("code", code.into())]);
    Json::Object(vec![("coding", Json::from(vec![coding]))])
}

/// Builds a decimal with a fixed number of places: `decimal(110, 2)` is `1.10`.
fn decimal(scaled: i64, places: u32) -> Json {
    let unit = 10_i64.pow(places);
    let (whole, fraction) = (scaled / unit, (scaled % unit).abs());
    let sign = if scaled < 0 && whole == 0 { "-" } else { "" };
    Json::Raw(match places {
        0 => whole.to_string(),
        _ => format!("{sign}{whole}.{fraction:0width$}", width = places as usize),
    })
}

/// Builds a `Quantity` with a UCUM unit.
fn quantity(value: Json, unit: &str, ucum: &str) -> Json {
    Json::Object(vec![("value", value), ("unit", unit.into()), ("system", "http://unitsofmeasure.org".into()), ("code", ucum.into())])
}

/// Returns the item at index `n` modulo the number of items.
#[expect(clippy::indexing_slicing, reason = "the remainder of a division by N is below N")]
fn pick<T: Copy, const N: usize>(items: &[T; N], n: usize) -> T {
    items[n % N]
}

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
