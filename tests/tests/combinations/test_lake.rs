//! Lakes of this test: a sample, with an additional Group and Provenance resources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;

/// Id of the additional group.
pub(crate) const GROUP: &str = "every-second";

/// Copy of a lake with additional resources.
pub(crate) struct TestLake {
    dir: TempDir,
    /// Active members of the group: neither inactive nor past their period.
    pub(crate) members: BTreeSet<String>,
}

impl TestLake {
    /// Copies the lake in `source` and adds a group of every second patient, and Provenance for some resources.
    pub(crate) fn create(source: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        copy(source, &dir.path().join("sample"))?;
        let lines = crate::oracle::lines(dir.path())?;
        let ids = |resource_type: &str| -> BTreeSet<String> {
            lines.iter().filter(|line| line.resource_type == resource_type).map(|line| line.id.clone()).collect()
        };
        let (group, members) = group(ids("Patient").into_iter().step_by(2));
        fs::write(dir.path().join("Group.ndjson"), format!("{group}\n"))?;
        let mut provenance = String::new();
        for (resource_type, step) in [("Encounter", 97), ("Condition", 31), ("Patient", 9), ("Organization", 5)] {
            for (number, id) in ids(resource_type).iter().enumerate().step_by(step) {
                provenance.push_str(&format!("{}\n", provenance_for(resource_type, id, number)));
            }
        }
        fs::write(dir.path().join("Provenance.ndjson"), provenance)?;
        Ok(Self { dir, members })
    }

    /// Returns the folder of the lake.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Builds a group of these patients in every kind of membership. Returns it and its active members.
fn group(patients: impl Iterator<Item = String>) -> (Value, BTreeSet<String>) {
    let mut members = Vec::new();
    let mut active = BTreeSet::new();
    for (number, id) in patients.enumerate() {
        let entity = json!({ "reference": format!("Patient/{id}") });
        members.push(match number % 4 {
            1 => json!({ "entity": entity, "inactive": true }),
            2 => json!({ "entity": entity, "period": { "start": "2001-01-01" } }),
            3 => json!({ "entity": entity, "period": { "start": "2001-01-01", "end": "2019-12-31" } }),
            _ => json!({ "entity": entity }),
        });
        if matches!(number % 4, 0 | 2) {
            active.insert(id);
        }
    }
    let group = json!({
        "resourceType": "Group", "id": GROUP, "meta": { "versionId": "1", "lastUpdated": "2023-03-04T05:06:07.000Z" },
        "type": "person", "actual": true, "name": "Every second patient", "member": members,
    });
    (group, active)
}

/// Builds a Provenance of a resource.
fn provenance_for(resource_type: &str, id: &str, number: usize) -> Value {
    json!({
        "resourceType": "Provenance", "id": format!("prov-{}-{number}", resource_type.to_lowercase()),
        "meta": { "versionId": "1", "lastUpdated": format!("202{}-05-06T07:08:09.010Z", number % 5) },
        "target": [{ "reference": format!("{resource_type}/{id}") }],
        "recorded": format!("202{}-05-06T07:08:09Z", number % 5),
        "agent": [{ "who": { "display": "the registry" } }],
    })
}

/// Copies a folder with its subfolders.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        let target = to.join(path.file_name().ok_or("a path without a file name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
