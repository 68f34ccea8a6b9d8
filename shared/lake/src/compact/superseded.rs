//! Old objects that wait until no export can be reading them any more.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::vocab::clock::Millis;
use serde::{Deserialize, Serialize};

use super::{CompactReport, CompactSettings, ObjectCount};
use crate::regular_file::open_regular_file;
use crate::writing::{LakeBucket, LakeLock, MARKER_FOLDER, OWN_FOLDER, Staging, WriteError, entries};

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
        self.add_lines(BufReader::new(open_regular_file(path)?))
    }

    /// Adds the lines of a marker.
    fn add_lines(&mut self, marker: impl io::BufRead) -> io::Result<()> {
        for line in marker.lines() {
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
            lake.remove_object(pin)?;
            report.removed.add(pin.size);
        }
        if report.waiting.objects == 0 {
            for marker in std::mem::take(&mut self.markers) {
                lake.remove_own_file(&marker)?;
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

/// Returns the old objects of the lake in a bucket that wait for their removal, and when the last of them was replaced.
pub fn waiting_objects_in(bucket: &dyn LakeBucket) -> io::Result<(ObjectCount, Option<Millis>)> {
    let mut superseded = SupersededObjects::default();
    for marker in bucket.list(&format!("{OWN_FOLDER}/{MARKER_FOLDER}/"))? {
        if let Some((content, _)) = bucket.read(&marker.object)? {
            superseded.add_lines(content.as_slice())?;
        }
    }
    let (mut count, mut replaced_at) = (ObjectCount::default(), None);
    if superseded.objects.is_empty() {
        return Ok((count, replaced_at));
    }
    for pin in bucket.list("")?.iter().filter(|pin| superseded.contains(pin)) {
        count.add(pin.size);
        replaced_at = replaced_at.max(superseded.objects.get(&pin.object).map(|object| Millis(object.since)));
    }
    Ok((count, replaced_at))
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
