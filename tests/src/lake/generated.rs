//! Lakes of generated resources in any size, for measurements. They are written faster than the sample lake is multiplied.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::compression::{CompressedFile, Compression};
use super::sample::Random;
use super::{LakeError, check_is_empty};

/// Size at which the next object begins, before compression. A compressed object is read by one task, which fills many output files.
const OBJECT_BYTES: u64 = 1_000_000_000;

/// Size of the resources of one patient, roughly.
const PATIENT_BYTES: u64 = 170_000;

/// Types of resources that refer to their patient, and their number for each patient.
const TYPES: [(&str, u32); 6] =
    [("Observation", 60), ("Condition", 8), ("Encounter", 12), ("Procedure", 10), ("MedicationRequest", 12), ("DiagnosticReport", 8)];

/// Number of the first observations of each patient that have a Provenance each.
const PROVENANCES: u32 = 15;

/// Length of the tag of a resource, an element that all types have. With it, a resource has 1.4 kB, the mean of Synthea's.
const TEXT_BYTES: usize = 1_150;

/// Lengths of the attachments of long lines. The longest line is just below the limit of 64 MiB.
const ATTACHMENT_BYTES: [usize; 3] = [62 << 20, 1 << 20, 30 << 20];

/// Id of the group of every second patient.
const GROUP: &str = "group";

/// Content of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Resources of patients in objects of one type each.
    ByType,
    /// Resources of patients in objects of all types.
    Mixed,
    /// Documents with attachments of up to 62 MiB.
    LongLines,
}

/// Size and form of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LakeShape {
    /// Size before compression, roughly.
    pub bytes: u64,
    /// Compression of the objects.
    pub compression: Compression,
    /// Content.
    pub content: Content,
    /// Number of versions of each resource. Version n, from 1, was changed on day n of January 2024.
    pub versions: u32,
}

/// Writes a lake to an empty or new folder. The same shape gives the same bytes. Returns the size before compression.
pub fn write(dir: &Path, shape: &LakeShape) -> Result<u64, LakeError> {
    check_is_empty(dir)?;
    let mut lake = LakeFiles::new(dir, shape);
    if shape.content == Content::LongLines {
        for (number, length) in ATTACHMENT_BYTES.into_iter().cycle().enumerate() {
            if lake.bytes >= shape.bytes {
                break;
            }
            lake.add_document(number, length)?;
        }
        return lake.close();
    }
    let patients = (shape.bytes / PATIENT_BYTES / u64::from(shape.versions)).max(2);
    for version in 1..=shape.versions {
        for patient in 0..patients {
            lake.add_patient(patient, version)?;
        }
    }
    lake.add_group(patients)?;
    lake.close()
}

/// Objects of a lake that are being written.
struct LakeFiles<'a> {
    dir: &'a Path,
    shape: &'a LakeShape,
    /// Open object of each stem of a name, with its number and size.
    open: BTreeMap<&'static str, OpenObject>,
    /// Words from which texts are cut.
    words: String,
    line: String,
    lines: usize,
    bytes: u64,
}

/// Object that is being written.
struct OpenObject {
    path: PathBuf,
    file: CompressedFile,
    number: u32,
    bytes: u64,
}

impl<'a> LakeFiles<'a> {
    /// Creates an empty lake.
    fn new(dir: &'a Path, shape: &'a LakeShape) -> Self {
        let mut random = Random::new(7);
        let mut words = String::new();
        while words.len() < 64 << 10 {
            let length = 3 + random.below(7);
            words.extend((0..length).map(|_| char::from(random.letter(b"abcdefghiklmnoprstuvwxyz"))));
            words.push(' ');
        }
        Self { dir, shape, open: BTreeMap::new(), words, line: String::new(), lines: 0, bytes: 0 }
    }

    /// Writes a version of each resource of a patient.
    fn add_patient(&mut self, patient: u64, version: u32) -> Result<(), LakeError> {
        let name =
            r#""name":[{"family":"Upstream","given":["Ada"]}],"birthDate":"1970-01-01","address":[{"postalCode":"02139","city":"Weir"}]"#;
        self.add("Patient", format_args!("p-{patient}"), version, format_args!("{name}"))?;
        for (kind, count) in TYPES {
            let initial = kind.get(..1).unwrap_or_default();
            for number in 0..count {
                let id = format_args!("{initial}-{patient}-{number}");
                self.add(kind, id, version, format_args!(r#""language":"en","subject":{{"reference":"Patient/p-{patient}"}}"#))?;
            }
        }
        for number in 0..PROVENANCES {
            let members = format_args!(
                r#""recorded":"2024-01-01T00:00:00Z","target":[{{"reference":"Observation/O-{patient}-{number}"}}],"agent":[{{"who":{{"display":"Ada"}}}}]"#
            );
            self.add("Provenance", format_args!("v-{patient}-{number}"), version, members)?;
        }
        Ok(())
    }

    /// Writes the group of every second patient.
    fn add_group(&mut self, patients: u64) -> Result<(), LakeError> {
        let members: Vec<String> =
            (0..patients).step_by(2).map(|patient| format!(r#"{{"entity":{{"reference":"Patient/p-{patient}"}}}}"#)).collect();
        let members = members.join(",");
        self.add("Group", format_args!("{GROUP}"), 1, format_args!(r#""type":"person","actual":true,"member":[{members}]"#))
    }

    /// Writes a document with an attachment of this length.
    fn add_document(&mut self, number: usize, length: usize) -> Result<(), LakeError> {
        let data = "QUJD".repeat(length / 4);
        let members =
            format_args!(r#""status":"current","content":[{{"attachment":{{"contentType":"application/pdf","data":"{data}"}}}}]"#);
        self.add("DocumentReference", format_args!("d-{number}"), 1, members)
    }

    /// Writes a line to the object of its type, or of all types.
    fn add(
        &mut self,
        kind: &'static str,
        id: std::fmt::Arguments<'_>,
        version: u32,
        members: std::fmt::Arguments<'_>,
    ) -> Result<(), LakeError> {
        let start = (self.lines * 97) % (self.words.len() - TEXT_BYTES);
        let text = self.words.get(start..start + TEXT_BYTES).unwrap_or_default();
        self.line.clear();
        let written = writeln!(
            self.line,
            r#"{{"resourceType":"{kind}","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"2024-01-{version:02}T00:00:00.000Z","tag":[{{"display":"{text}"}}]}},{members}}}"#
        );
        // Writing to a string does not fail.
        debug_assert!(written.is_ok());
        (self.lines, self.bytes) = (self.lines + 1, self.bytes + self.line.len() as u64);
        let stem = if self.shape.content == Content::Mixed { "all" } else { kind };
        self.open_object(stem)?;
        let Some(object) = self.open.get_mut(stem) else { return Ok(()) };
        object.bytes += self.line.len() as u64;
        object.file.write(self.line.as_bytes()).map_err(LakeError::at(&object.path))
    }

    /// Opens an object of this stem if none is open, or if the open one is full.
    fn open_object(&mut self, stem: &'static str) -> Result<(), LakeError> {
        let number = match self.open.get(stem) {
            Some(object) if object.bytes < OBJECT_BYTES => return Ok(()),
            Some(object) => object.number + 1,
            None => 0,
        };
        if let Some(full) = self.open.remove(stem) {
            full.file.close().map_err(LakeError::at(&full.path))?;
        }
        let path = self.dir.join(self.shape.compression.rename(Path::new(&format!("{stem}.{number:03}.ndjson"))));
        let file = CompressedFile::create(&path, self.shape.compression).map_err(LakeError::at(&path))?;
        self.open.insert(stem, OpenObject { path, file, number, bytes: 0 });
        Ok(())
    }

    /// Closes the open objects. Returns the size of the lake before compression.
    fn close(self) -> Result<u64, LakeError> {
        for object in self.open.into_values() {
            object.file.close().map_err(LakeError::at(&object.path))?;
        }
        Ok(self.bytes)
    }
}
