//! A synthetic lake: many objects of one type each, whose lines are numbered, so that each can be found again.

mod content;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use headrace_fhir::definitions::ResourceType;

use crate::parameters::Scenario;
use crate::scale::{REAL_LINE_BYTES, Scale};

pub use content::line_number;
pub use source::ModelLake;
pub(crate) use source::{chunks, overloaded};

/// The types of the lake, in the order of a listing, with their share of its bytes in per cent.
const TYPES: [(&str, u64); 13] = [
    ("AllergyIntolerance", 1),
    ("CareTeam", 1),
    ("Claim", 14),
    ("Condition", 2),
    ("DiagnosticReport", 8),
    ("DocumentReference", 4),
    ("Encounter", 6),
    ("ExplanationOfBenefit", 30),
    ("Immunization", 1),
    ("MedicationRequest", 3),
    ("Observation", 24),
    ("Patient", 1),
    ("Procedure", 5),
];

/// The objects of a lake.
#[derive(Debug)]
pub struct Lake {
    objects: Vec<LakeObject>,
    /// The index of each object, by its name.
    by_name: BTreeMap<String, usize>,
    /// The type of the lines up to a number, by the number after the last one.
    types: BTreeMap<u32, ResourceType>,
    scale: Scale,
    /// True if objects are compressed with Zstandard.
    is_compressed: bool,
}

/// An object of a lake.
#[derive(Debug)]
pub struct LakeObject {
    name: String,
    stored: Bytes,
    /// The size before compression.
    line_bytes: u64,
}

impl Lake {
    /// Creates the lake of a scenario.
    pub fn new(scenario: &Scenario, scale: Scale) -> io::Result<Arc<Self>> {
        let mut lake =
            Self { objects: Vec::new(), by_name: BTreeMap::new(), types: BTreeMap::new(), scale, is_compressed: scenario.is_compressed };
        for (name, percent) in TYPES {
            let Some(resource_type) = ResourceType::parse(name) else { continue };
            let first_object = lake.objects.len();
            let mut left = lake_lines(scenario.lake_bytes / 100 * percent, scale);
            while left > 0 {
                let part = lake.objects.len() - first_object;
                let count = left.min(lake_lines(varied_size(scenario.object_bytes, part), scale));
                let first = lake.line_count();
                let suffix = if scenario.is_compressed { ".zst" } else { "" };
                lake.add_object(format!("{name}/part-{part:06}.ndjson{suffix}"), resource_type, first..first + count)?;
                left -= count;
            }
        }
        Ok(Arc::new(lake))
    }

    /// Adds an object with these lines.
    fn add_object(&mut self, name: String, resource_type: ResourceType, lines: std::ops::Range<u32>) -> io::Result<()> {
        let (stored, line_bytes) = if self.is_compressed {
            content::compress(resource_type, lines.clone(), self.scale)?
        } else {
            let text = content::plain(resource_type, lines.clone());
            let line_bytes = text.len() as u64;
            (text, line_bytes)
        };
        self.by_name.insert(name.clone(), self.objects.len());
        self.types.insert(lines.end, resource_type);
        self.objects.push(LakeObject { name, stored, line_bytes });
        Ok(())
    }

    /// Returns the number of lines.
    pub fn line_count(&self) -> u32 {
        self.types.keys().next_back().copied().unwrap_or_default()
    }

    /// Returns the type of a line. `None` if the lake has no such line.
    pub fn type_of_line(&self, number: u32) -> Option<ResourceType> {
        self.types.range(number + 1..).next().map(|(_, resource_type)| *resource_type)
    }

    /// Returns the number of objects.
    pub fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// Returns the real size of the lake as it is stored, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.stored.len() as u64).sum::<u64>() * self.scale.bytes
    }
}

/// Returns the size of an object: between three and five quarters of the usual size.
///
/// If all objects had the same size, so would the lines that tasks leave after their last full file. Such rests do not fill files together.
fn varied_size(usual_bytes: u64, part: usize) -> u64 {
    // The numbers of objects, spread over 0 to 99.
    let spread = (part as u64).wrapping_mul(61) % 100;
    usual_bytes / 200 * (150 + spread)
}

/// Returns the number of simulated lines in this many real bytes, at least 1.
fn lake_lines(real_bytes: u64, scale: Scale) -> u32 {
    u32::try_from((real_bytes / REAL_LINE_BYTES / scale.lines).max(1)).unwrap_or(u32::MAX)
}
