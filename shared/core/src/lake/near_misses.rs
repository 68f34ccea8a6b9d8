//! Objects that look like data of the lake, but have names that are not read.

use crate::lake::slices::{encoding_from_name, is_foreign, type_from_file_name};
use crate::vocab::plural::counted;

/// Ending of names of compressed files that are not decompressed.
const OTHER_COMPRESSIONS: [&str; 10] = [".bz2", ".xz", ".zip", ".br", ".lz4", ".lzma", ".7z", ".z", ".gzip", ".zstd"];

/// Kind of a name that is nearly right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NearMiss {
    /// `Patient.NDJSON`.
    OtherCase,
    /// `Patient.jsonl`.
    JsonLines,
    /// `Patient.ndjson.bz2`.
    OtherCompression,
    /// `Patient.json`: named after a resource type, so that a configuration or a manifest does not count.
    Json,
}

impl NearMiss {
    /// Classifies the name of an object. Returns `None` for an object that is read, and for one that is not meant to be.
    fn from_name(object: &str) -> Option<Self> {
        if encoding_from_name(object).is_some() || object.split('/').any(is_foreign) {
            return None;
        }
        let name = object.to_ascii_lowercase();
        if encoding_from_name(&name).is_some() {
            return Some(Self::OtherCase);
        }
        let (stem, is_compressed) = strip_compression(&name);
        let is_json_lines = [".jsonl", ".ndjsonl", ".jsonlines"].iter().any(|ending| stem.ends_with(ending));
        if is_json_lines {
            Some(Self::JsonLines)
        } else if is_compressed && stem.ends_with(".ndjson") {
            Some(Self::OtherCompression)
        } else if stem.ends_with(".json") && type_from_file_name(object).is_some() {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// Returns a name without the ending of a compression, and true if it had one.
fn strip_compression(name: &str) -> (&str, bool) {
    let endings = OTHER_COMPRESSIONS.into_iter().chain([".gz", ".zst"]);
    match endings.into_iter().find_map(|ending| name.strip_suffix(ending)) {
        Some(stem) => (stem, true),
        None => (name, false),
    }
}

/// Numbers of objects whose names are nearly right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NearMisses {
    other_case: u64,
    json_lines: u64,
    other_compression: u64,
    json: u64,
}

impl NearMisses {
    /// Returns true if an object of this name counts.
    pub fn is_near_miss(object: &str) -> bool {
        NearMiss::from_name(object).is_some()
    }

    /// Counts an object of a listing.
    pub fn add(&mut self, object: &str) {
        match NearMiss::from_name(object) {
            Some(NearMiss::OtherCase) => self.other_case += 1,
            Some(NearMiss::JsonLines) => self.json_lines += 1,
            Some(NearMiss::OtherCompression) => self.other_compression += 1,
            Some(NearMiss::Json) => self.json += 1,
            None => {}
        }
    }

    /// Describes how many objects of each kind there are, and how to make exports read them. Returns `None` if there are none.
    pub fn describe(&self) -> Option<String> {
        let kinds = [
            (
                self.other_case,
                "file ends in .ndjson in another letter case",
                "files end in .ndjson in another letter case",
                "rename to .ndjson",
            ),
            (self.json_lines, "file ends in .jsonl", "files end in .jsonl", "rename to .ndjson"),
            (
                self.other_compression,
                "file is .ndjson in a compression that is not read",
                "files are .ndjson in a compression that is not read",
                "decompress, or compress with gzip (.gz) or zstd (.zst)",
            ),
            (self.json, "file ends in .json", "files end in .json", "write one resource a line and rename to .ndjson"),
        ];
        let parts: Vec<String> = kinds
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many, remedy)| format!("{} ({remedy})", counted(count, one, many)))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_right_are_distinguished_from_data_and_from_other_files() {
        for (object, expected) in [
            ("Patient.2.NDJSON", Some(NearMiss::OtherCase)),
            ("day/Patient.ndjson.GZ", Some(NearMiss::OtherCase)),
            ("Patient.jsonl", Some(NearMiss::JsonLines)),
            ("all.JSONL.gz", Some(NearMiss::JsonLines)),
            ("Patient.ndjson.bz2", Some(NearMiss::OtherCompression)),
            ("Patient.ndjson.zip", Some(NearMiss::OtherCompression)),
            ("Patient.json", Some(NearMiss::Json)),
            ("Patient-1.json.gz", Some(NearMiss::Json)),
            ("type=Patient.json", Some(NearMiss::Json)),
            ("Patient.ndjson", None),
            ("Patient.ndjson.zst", None),
            ("manifest.json", None),
            ("Patient/manifest.json", None),
            ("_headrace/Patient.json", None),
            (".cache/Patient.jsonl", None),
            ("notes.txt", None),
            ("Patient.csv.gz", None),
            ("", None),
        ] {
            assert_eq!(NearMiss::from_name(object), expected, "{object}");
        }
    }

    #[test]
    fn one_line_has_the_number_and_the_remedy_of_each_kind() {
        let mut near_misses = NearMisses::default();
        assert_eq!(near_misses.describe(), None);
        for object in ["a.NDJSON", "b.jsonl", "c.jsonl", "d.ndjson.xz", "Patient.json", "Patient.ndjson"] {
            near_misses.add(object);
        }
        assert_eq!(
            near_misses.describe().as_deref(),
            Some(
                "1 file ends in .ndjson in another letter case (rename to .ndjson), 2 files end in .jsonl (rename to .ndjson), 1 file is .ndjson in a \
                 compression that is not read (decompress, or compress with gzip (.gz) or zstd (.zst)), 1 file ends in .json (write one resource \
                 a line and rename to .ndjson)"
            )
        );
    }
}
