//! The lake: patients from beside the checkout where they are, else the sample that the repository ships; and with them a
//! group and some Provenance, which those do not have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;

/// The group's id.
pub(crate) const GROUP: &str = "every-fifth";

pub(crate) struct PatientsLake {
    dir: TempDir,
    /// Who is in the group by what it says: neither inactive nor gone.
    pub(crate) members: BTreeSet<String>,
}

impl PatientsLake {
    pub(crate) fn make() -> Result<Self> {
        let beside = ["100-patients", "10-patients"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name));
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/lake");
        let from = beside.into_iter().find(|dir| dir.is_dir()).unwrap_or(sample);
        let dir = tempfile::tempdir()?;
        copy(&from, &dir.path().join("dump"))?;
        let lines = crate::oracle::lines(dir.path())?;
        let ids = |kind: &str| -> BTreeSet<String> { lines.iter().filter(|line| line.kind == kind).map(|line| line.id.clone()).collect() };
        let chosen: Vec<String> = ids("Patient").into_iter().step_by(5).collect();
        let mut members = Vec::new();
        let mut counted = BTreeSet::new();
        for (number, id) in chosen.iter().enumerate() {
            let entity = json!({ "reference": format!("Patient/{id}") });
            members.push(match number % 7 {
                3 => json!({ "entity": entity, "inactive": true }),
                5 => json!({ "entity": entity, "period": { "start": "2001-01-01", "end": "2019-12-31" } }),
                6 => json!({ "entity": entity, "period": { "start": "2001-01-01" } }),
                _ => json!({ "entity": entity }),
            });
            if !matches!(number % 7, 3 | 5) {
                counted.insert(id.clone());
            }
        }
        let group = json!({
            "resourceType": "Group", "id": GROUP, "meta": { "versionId": "1", "lastUpdated": "2023-03-04T05:06:07.000Z" },
            "type": "person", "actual": true, "name": "Every fifth", "member": members,
        });
        fs::write(dir.path().join("Group.ndjson"), format!("{group}\n"))?;
        let mut provenance = String::new();
        for (kind, step) in [("Encounter", 97), ("Condition", 31), ("Patient", 9), ("Organization", 5)] {
            for (number, id) in ids(kind).iter().enumerate().step_by(step) {
                let line = provenance_of(kind, id, number);
                provenance.push_str(&format!("{line}\n"));
            }
        }
        fs::write(dir.path().join("Provenance.ndjson"), provenance)?;
        Ok(Self { dir, members: counted })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn provenance_of(kind: &str, id: &str, number: usize) -> Value {
    json!({
        "resourceType": "Provenance", "id": format!("prov-{}-{number}", kind.to_lowercase()),
        "meta": { "versionId": "1", "lastUpdated": format!("202{}-05-06T07:08:09.010Z", number % 5) },
        "target": [{ "reference": format!("{kind}/{id}") }],
        "recorded": format!("202{}-05-06T07:08:09Z", number % 5),
        "agent": [{ "who": { "display": "the registry" } }],
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        let target = to.join(path.file_name().ok_or("no name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
