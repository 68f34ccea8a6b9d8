//! Limits the `error` file: the first entries about an object, and of a checkpoint, are written one by one, the others are only counted.

use crate::job::Job;
use crate::vocab::plural::counted;

/// The number of entries about one object that are written one by one.
pub(super) const ENTRIES_PER_OBJECT: u64 = 200;

/// The number of entries of a checkpoint that are written one by one, whatever the number of objects is.
const ENTRIES_PER_CHECKPOINT: u64 = 1_000;

/// The number of entries that the checkpoints of a job share, if it has many. They take about 25 MB.
const ENTRIES_PER_JOB: u64 = 100_000;

/// Entries of the `error` file since the last checkpoint.
///
/// A checkpoint starts with a new limit, so that a second attempt from the same cursor writes the same entries.
#[derive(Debug)]
pub(super) struct ReportLimit {
    /// The number of entries of a checkpoint that are written one by one.
    entries_per_checkpoint: u64,
    current: ObjectEntries,
    /// Entries that were written, with those that count others.
    written: u64,
    /// Entries that were only counted since the limit of the checkpoint was reached.
    entries_beyond: u64,
    /// Objects with such entries.
    objects_beyond: u64,
    /// Object and offset of the last such entry.
    last_beyond: Option<(String, u64)>,
}

/// Consecutive entries about one object of the lake.
#[derive(Debug, Default)]
struct ObjectEntries {
    object: Option<String>,
    entries: u64,
    written: u64,
    last_offset: Option<u64>,
}

impl ReportLimit {
    /// Creates the limit of a task of a job. The more checkpoints the job has by its plan, the fewer entries each one may have.
    pub(super) fn from_job(job: &Job) -> Self {
        let checkpoints = job
            .planned
            .as_ref()
            .map_or(0, |planned| u64::from(planned.tasks).saturating_add(planned.source_bytes / job.settings.file_bytes.max(1)));
        Self::new((ENTRIES_PER_JOB / checkpoints.max(1)).clamp(1, ENTRIES_PER_CHECKPOINT))
    }

    /// Creates a limit without entries.
    fn new(entries_per_checkpoint: u64) -> Self {
        let (current, last_beyond) = (ObjectEntries::default(), None);
        Self { entries_per_checkpoint, current, written: 0, entries_beyond: 0, objects_beyond: 0, last_beyond }
    }

    /// Returns true if the latest entries are about another object.
    pub(super) fn is_about_another_object(&self, location: Option<(&str, u64)>) -> bool {
        self.current.object.as_deref() != location.map(|(object, _)| object)
    }

    /// Counts an entry. Returns true if it is written on its own.
    ///
    /// * `location`: object and offset. `None` for de-identified exports.
    pub(super) fn count(&mut self, location: Option<(&str, u64)>) -> bool {
        if self.is_about_another_object(location) {
            self.current.object = location.map(|(object, _)| object.to_owned());
        }
        self.current.last_offset = location.map(|(_, offset)| offset);
        self.current.entries += 1;
        let is_written = self.current.entries <= ENTRIES_PER_OBJECT && self.written < self.entries_per_checkpoint;
        self.current.written += u64::from(is_written);
        self.written += u64::from(is_written);
        is_written
    }

    /// Ends the entries about an object. Returns the text about those that were only counted, or `None` if all were written, or if the
    /// checkpoint has too many entries.
    ///
    /// * `what`: what the entries are about, in the plural, such as `lines of the lake were left out`.
    pub(super) fn end_object(&mut self, what: &str) -> Option<String> {
        let ObjectEntries { object, entries, written, last_offset } = std::mem::take(&mut self.current);
        let more = entries.checked_sub(written).filter(|more| *more > 0)?;
        let last = object.zip(last_offset);
        if self.written >= self.entries_per_checkpoint {
            self.entries_beyond += more;
            self.objects_beyond += 1;
            self.last_beyond = last;
            return None;
        }
        self.written += 1;
        let place = last.map(|(object, offset)| format!(": object `{object}`, the last at byte {offset}")).unwrap_or_default();
        Some(format!("{more} more {what}{place}; {written} were reported one by one"))
    }

    /// Ends a checkpoint and starts again. Returns the texts about the entries that were only counted.
    pub(super) fn end_checkpoint(&mut self, what: &str) -> impl Iterator<Item = String> + use<> {
        let of_object = self.end_object(what);
        let limit = self.entries_per_checkpoint;
        let Self { entries_beyond, objects_beyond, last_beyond, .. } = std::mem::replace(self, Self::new(limit));
        let of_others = (entries_beyond > 0).then(|| {
            let objects = counted(objects_beyond, "object", "objects");
            let place = last_beyond.map(|(object, offset)| format!(": the last is object `{object}`, byte {offset}")).unwrap_or_default();
            format!("{entries_beyond} more {what} in {objects}{place}; {limit} entries before them were reported")
        });
        of_object.into_iter().chain(of_others)
    }
}
