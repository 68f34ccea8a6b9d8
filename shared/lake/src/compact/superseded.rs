//! Old objects that wait until no export can be reading them any more.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::vocab::clock::Millis;
use serde::{Deserialize, Serialize};

use super::{CompactReport, CompactSettings, ObjectCount};
use crate::writing::{LakeLock, OWN_FOLDER, Staging, WriteError, entries};

/// The folder of markers, below the internal folder.
const MARKER_FOLDER: &str = "superseded";

/// A line of a marker: an object that newer ones have replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SupersededObject {
    object: String,
    /// The state of the object. One that has changed since is not removed.
    etag: String,
    /// The time at which the new objects were complete, in milliseconds since 1970.
    since: u64,
}

/// The old objects of a lake, by their names.
#[derive(Debug, Default)]
pub(super) struct SupersededObjects {
    objects: HashMap<String, SupersededObject>,
    markers: Vec<PathBuf>,
}

impl SupersededObjects {
    /// Reads the markers of a lake.
    pub(super) fn read(lake: &LakeLock) -> Result<Self, WriteError> {
        let mut superseded = Self::default();
        for path in lake.own_entries(MARKER_FOLDER)? {
            superseded.read_marker(&path).map_err(WriteError::at(&path))?;
            superseded.markers.push(path);
        }
        Ok(superseded)
    }

    /// Reads one marker.
    fn read_marker(&mut self, path: &Path) -> io::Result<()> {
        for line in BufReader::new(File::open(path)?).lines() {
            let object: SupersededObject = serde_json::from_str(&line?)?;
            // A marker can remove only data of the lake, regardless of its content.
            let is_below = object.object.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
            if is_below && encoding_from_name(&object.object).is_some() {
                self.objects.insert(object.object.clone(), object);
            }
        }
        Ok(())
    }

    /// Returns true if newer objects have replaced this one.
    pub(super) fn contains(&self, pin: &Pin) -> bool {
        self.objects.get(&pin.object).is_some_and(|object| object.etag == pin.etag)
    }

    /// Removes the objects that no export can be reading any more, and counts those that wait.
    pub(super) fn remove_expired(
        &mut self,
        lake: &LakeLock,
        pins: &[Pin],
        settings: &CompactSettings,
        report: &mut CompactReport,
    ) -> Result<(), WriteError> {
        for pin in pins.iter().filter(|pin| self.contains(pin)) {
            let since = self.objects.get(&pin.object).map_or(settings.rewrite.now, |object| Millis(object.since));
            let removable_at = since + settings.export_deadline;
            if !settings.removes_now && removable_at > settings.rewrite.now {
                report.waiting.add(pin.size);
                report.removable_at = report.removable_at.max(Some(removable_at));
                continue;
            }
            let path = lake.root().join(&pin.object);
            lake.fault_pass().and_then(|()| remove_file(&path)).map_err(WriteError::at(&path))?;
            report.removed.add(pin.size);
            if let Some(folder) = path.parent().filter(|folder| *folder != lake.root()) {
                // Fails if it is not empty.
                drop(fs::remove_dir(folder));
            }
        }
        if report.waiting.objects == 0 {
            for marker in std::mem::take(&mut self.markers) {
                lake.fault_pass().and_then(|()| remove_file(&marker)).map_err(WriteError::at(&marker))?;
            }
        }
        Ok(())
    }
}

/// Returns the old objects of the lake in the directory `root` that wait for their removal, and when the last of them was replaced.
pub fn waiting_objects(root: &Path) -> io::Result<(ObjectCount, Option<Millis>)> {
    let mut superseded = SupersededObjects::default();
    for path in entries(&root.join(OWN_FOLDER).join(MARKER_FOLDER))? {
        superseded.read_marker(&path)?;
    }
    let (mut count, mut replaced_at) = (ObjectCount::default(), None);
    for object in superseded.objects.values() {
        if let Ok(metadata) = fs::metadata(root.join(&object.object)) {
            count.add(metadata.len());
            replaced_at = replaced_at.max(Some(Millis(object.since)));
        }
    }
    Ok((count, replaced_at))
}

/// Removes a file that may not exist.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a marker of objects that are replaced. Returns its staged and its final name.
pub(super) fn stage_marker(staging: &Staging<'_>, objects: &[&Pin], now: Millis) -> Result<(String, String), WriteError> {
    let mut lines = String::new();
    for pin in objects {
        let object = SupersededObject { object: pin.object.clone(), etag: pin.etag.clone(), since: now.0 };
        lines += &serde_json::to_string(&object).unwrap_or_default();
        lines.push('\n');
    }
    staging.write("superseded", lines.as_bytes())?;
    Ok(("superseded".to_owned(), format!("{OWN_FOLDER}/{MARKER_FOLDER}/{}.ndjson", now.compact())))
}
